package kafka

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/wire"
)

// Records that are made together have each its own headers.
func TestHeadersOfRecords(t *testing.T) {
	header := func(name, value string) kgo.RecordHeader { return kgo.RecordHeader{Key: name, Value: []byte(value)} }
	all := [][]kgo.RecordHeader{
		{header("a", "1"), header("b", "2")},
		{header("a", "3"), header("b", "4"), header("c", "5")},
		nil,
		{header("b", "6"), header("b", "7"), header("", "8")},
		{header("b", "")},
		{header("bb", "9"), header("b", "10")},
	}
	var records []*kgo.Record
	var want, got [][]string
	for _, headers := range all {
		records = append(records, &kgo.Record{Headers: headers})
		var text []string
		for _, h := range headers {
			text = append(text, h.Key+"="+string(h.Value))
		}
		want = append(want, text)
	}
	for _, r := range recordsOf(records) {
		var text []string
		for _, h := range r.Headers {
			text = append(text, h.Name+"="+string(h.Value))
		}
		_ = append(r.Headers, wire.Header{Name: "it has no room here, where those of the next one are"})
		got = append(got, text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

// A record costs the same however many headers it has.
func TestRecordsTakeLittleMemory(t *testing.T) {
	var records []*kgo.Record
	for range slab {
		r := &kgo.Record{}
		for n := range 10 {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: fmt.Sprint("a name of a header ", n)})
		}
		records = append(records, r)
	}
	if n := testing.AllocsPerRun(100, func() { recordsOf(records) }); n > 2 { // records and headers of all
		t.Errorf("%d records allocate %v times", slab, n)
	}
}
