package views

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/views/viewspb"
)

func TestSharesOfInstances(t *testing.T) {
	t.Parallel()
	p := newPeers(LocalConfig{Instance: "me", Host: "here"})
	p.of = time.Now().Add(time.Hour) // nobody asks Kafka
	p.owners = map[int32]kafka.Owner{
		0: {ID: "me", Tells: "http://10.0.0.1:1"}, 1: {ID: "a", Tells: "http://10.0.0.2:1"}, 2: {ID: "b", Tells: "https://127.0.0.1:2#here"},
		3: {ID: "a", Tells: "http://10.0.0.2:1"}, 4: {ID: "c", Host: "10.0.0.9", Tells: "http://127.0.0.1:1#there"}, 5: {ID: "d", Host: "10.0.0.8"},
		6: {ID: "e", Tells: "http://127.0.0.1:1#"},
	}
	tests := []struct {
		partitions []int32
		want       map[string][]int32
		says       []string
	}{
		{[]int32{1, 2, 3}, map[string][]int32{"http://10.0.0.2:1": {1, 3}, "https://127.0.0.1:2": {2}}, nil},
		{[]int32{1, 0}, nil, []string{"no instance works on partition 0;"}},
		{[]int32{1, 7, 8}, nil, []string{"no instance works on partitions 7, 8;"}},
		{[]int32{4}, nil, []string{"instance c on host 10.0.0.9 works on partition 4 and tells http://127.0.0.1:1, where only its own host reaches it", "--advertise-addr"}},
		{[]int32{6}, nil, []string{"instance e"}},
		{[]int32{4, 1, 5}, nil, []string{"instance c", "instance d on host 10.0.0.8 works on partition 5 and tells no address", "--views=all"}},
	}
	for _, test := range tests {
		got, err := p.shares(test.partitions, false)
		if !maps.EqualFunc(got, test.want, slices.Equal) || (err == nil) != (test.says == nil) {
			t.Errorf("%v: %v, %v", test.partitions, got, err)
		}
		for _, text := range test.says {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%v: no %q in %v", test.partitions, text, err)
			}
		}
		if none := (*elsewhereError)(nil); strings.Contains(fmt.Sprint(err), "instance") && strings.Contains(err.Error(), "tells") && !errors.As(err, &none) {
			t.Errorf("%v: %T", test.partitions, err)
		}
	}
}

// However the rows are spread, pages that follow one another have each of them once, in order.
func TestPagesOfPartitions(t *testing.T) {
	t.Parallel()
	const rows, shared = 97, 10 // each tenth key is in all partitions
	for _, partitions := range []int{1, 2, 5} {
		for _, limit := range []int{1, 7, 30, 97, 200} {
			for _, reads := range []int{3, 1000} { // rows that one page of a partition reads
				var got []string
				cursor, pages := "", 0
				for more := true; more; pages++ {
					l, err := newListing("g", &viewspb.ListRequest{Limit: int32(limit), Cursor: cursor})
					if err != nil {
						t.Fatal(err)
					}
					var parts []page
					for part := range partitions {
						p := page{fresh: Freshness{AsOf: time.Unix(int64(100-part), 0), Lag: 1}}
						for n := range rows {
							if n%partitions != part && n%shared != 0 {
								continue
							}
							key := fmt.Sprintf("key-%03d", n)
							if key <= l.after {
								continue
							}
							p.scanned++
							if n%3 != 0 { // the others do not pass
								e := &viewspb.Entry{Key: key}
								if n%2 == 0 {
									e.Key, e.RawKey = "\uFFFD", []byte(key)
								}
								p.entries = append(p.entries, e)
							}
							if len(p.entries) == limit || int(p.scanned) == reads {
								p.next = encodeListCursor(l.query, key)
								break
							}
						}
						parts = append(parts, p)
					}
					out, err := l.merge(parts)
					if err != nil || len(out.entries) >= limit+partitions || out.fresh.Lag != int64(partitions) || out.fresh.AsOf.Unix() != int64(101-partitions) {
						t.Fatalf("%d entries, %v, %v", len(out.entries), out.fresh, err)
					}
					for _, e := range out.entries {
						got = append(got, viewspb.KeyOf(e))
					}
					cursor = out.next
					if more = cursor != ""; pages > 10*rows {
						t.Fatal("it has no end")
					}
				}
				var want []string
				for n := range rows {
					times := 1
					if n%shared == 0 {
						times = partitions
					}
					if n%3 != 0 {
						want = append(want, slices.Repeat([]string{fmt.Sprintf("key-%03d", n)}, times)...)
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("%d partitions, limit %d, %d reads: %q", partitions, limit, reads, got)
				}
			}
		}
	}
}

// What was read of partitions beside each other is shown in the order of its times.
func TestLastChangesOfAllPartitions(t *testing.T) {
	t.Parallel()
	f := newFeed()
	f.begin("topic", 2)
	at := func(partition int32, offset int64, finished int64) {
		f.add(partition, offset, fmt.Sprintf("%d@%d", partition, offset), finishedAt(t, finished))
	}
	at(0, 0, 10)
	at(0, 1, 40)
	f.add(0, 2, "0@2", nil) // a removal has no time
	at(0, 3, 30)            // of a clock that is late
	at(1, 0, 20)
	at(1, 1, 50)
	f.arrange()
	var got []string
	for _, c := range f.changes {
		got = append(got, c.key)
	}
	if want := []string{"0@0", "1@0", "0@1", "0@2", "0@3", "1@1"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func finishedAt(t *testing.T, ms int64) []byte {
	t.Helper()
	value, err := proto.Marshal(&rowpb.Row{Version: 1, State: rowpb.State_STATE_FINAL, FinishedMs: ms})
	if err != nil {
		t.Fatal(err)
	}
	return value
}
