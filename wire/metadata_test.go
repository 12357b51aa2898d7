package wire_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/wire"
)

func TestMetadataFromAndToMD(t *testing.T) {
	t.Parallel()
	m := wire.FromMD(metadata.MD{"b": {"2", "1"}, "a-bin": {"\x00\xff"}, "C": {""}, "none": nil})
	// Sorted by the name as the map has it, so "C" is first.
	want := wire.Metadata{{"c", ""}, {"a-bin", "\x00\xff"}, {"b", "2"}, {"b", "1"}}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("FromMD (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(metadata.MD{"a-bin": {"\x00\xff"}, "b": {"2", "1"}, "c": {""}}, m.MD()); diff != "" {
		t.Errorf("MD (-want +got):\n%s", diff)
	}
	if wire.FromMD(nil) != nil || (wire.Metadata{}).MD() != nil {
		t.Error("no metadata is not nil")
	}
}

func TestMetadataGet(t *testing.T) {
	t.Parallel()
	m := wire.Metadata{{"a", "1"}, {"B", "2"}, {"a", "3"}}
	for name, want := range map[string]string{"a": "1", "A": "1", "b": "2"} {
		if got, ok := m.Get(name); !ok || got != want {
			t.Errorf("Get(%q) = %q, %v; want %q", name, got, ok, want)
		}
	}
	if _, ok := m.Get("c"); ok {
		t.Error("Get finds a name that is not there")
	}
}
