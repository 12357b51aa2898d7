package kafka

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Messages that are made together have each its own headers.
func TestHeadersOfMessages(t *testing.T) {
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
	for _, m := range messagesOf(records) {
		var text []string
		for _, h := range m.Headers {
			text = append(text, string(h.Key)+"="+string(h.Value))
		}
		got = append(got, text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

// A message costs the same however many headers it has, if those before it have the same.
func TestMessagesTakeLittleMemory(t *testing.T) {
	var records []*kgo.Record
	for range slab {
		r := &kgo.Record{}
		for n := range 10 {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: fmt.Sprint("a name of a header ", n)})
		}
		records = append(records, r)
	}
	if n := testing.AllocsPerRun(100, func() { messagesOf(records) }); n > 3+10 { // messages, headers and pointers of all; the names, once
		t.Errorf("%d messages allocate %v times", slab, n)
	}
}
