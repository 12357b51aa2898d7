package views

import (
	"errors"
	"slices"
	"testing"

	"kafkagrpc/internal/kafka"
)

// What the feed does not know of a partition is what was stored when the watcher came, also while there is no copy any more.
func TestPlacesInTheFeed(t *testing.T) {
	t.Parallel()
	f := newFeed()
	f.begin("topic", 2)
	f.add(1, 7, "k", nil)
	stored := []int64{3, 5}
	now, err := f.subscribe("192.0.2.1", place{topic: "topic", stored: stored})
	if err != nil {
		t.Fatal(err)
	}
	defer now.close()
	if missing := now.missing(); !slices.Equal(now.next, []int64{3, 8}) || len(missing) != 0 {
		t.Errorf("from now means from %d, with %v to read", now.next, missing)
	}
	after, err := f.subscribe("192.0.2.1", place{topic: "topic", stored: stored, after: []int64{1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	defer after.close()
	want := []kafka.Span{{Partition: 0, From: 1, To: 3}, {Partition: 1, From: 2, To: 7}}
	if missing := after.missing(); !slices.Equal(missing, want) {
		t.Errorf("%v is to be read, want %v", missing, want)
	}
	for _, other := range []place{{topic: "another", stored: stored}, {topic: "topic", stored: []int64{3}}} {
		if _, err := f.subscribe("192.0.2.1", other); !errors.Is(err, errOtherTable) {
			t.Errorf("a place in %+v is told %v", other, err)
		}
	}
	if _, watchers := f.counts(); watchers != 2 {
		t.Errorf("%d watchers", watchers)
	}
}
