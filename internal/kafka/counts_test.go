package kafka_test

import (
	"context"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// A key stays in its partition, whatever topics get more of them.
func TestPartitionsOfAGroup(t *testing.T) {
	t.Parallel()
	type counts struct{ requests, more, table, loop int32 } // 0: not there
	for name, tc := range map[string]struct {
		exist  counts
		row    int32 // the partition of the table that has a row
		before int   // the count that the group was seen with
		want   int
		wrong  string
	}{
		"a new group":                         {exist: counts{requests: 3}, want: 3},
		"a new group of unequal topics":       {exist: counts{requests: 3, more: 4}, wrong: "equal partition counts"},
		"equal":                               {exist: counts{3, 3, 3, 3}, row: 2, want: 3},
		"more requests":                       {exist: counts{5, 4, 3, 3}, row: 2, want: 3},
		"fewer requests":                      {exist: counts{2, 3, 3, 3}, wrong: `request topic "requests" has 2 partitions, and table topic "g-table" has keys in 3`},
		"a larger loop":                       {exist: counts{3, 3, 3, 5}, row: 2, want: 3},
		"a larger table":                      {exist: counts{3, 3, 5, 3}, row: 2, want: 3},
		"a larger table, and larger requests": {exist: counts{5, 5, 5, 3}, row: 2, want: 3},
		"a smaller loop":                      {exist: counts{5, 5, 5, 3}, row: 3, wrong: `loop topic "g-loop" has 3 partitions, and table topic "g-table" has keys in 5: add partitions`},
		"a table that is gone, and larger requests": {exist: counts{requests: 5, more: 4, loop: 3}, want: 3},
		"a loop that is gone":                       {exist: counts{requests: 5, more: 5, table: 3}, row: 2, want: 3},
		"all larger than before":                    {exist: counts{5, 5, 5, 5}, row: 2, before: 3, want: 3},
		"a loop smaller than before":                {exist: counts{3, 3, 3, 2}, row: 1, before: 3, wrong: `loop topic "g-loop" has 2 partitions`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, c := start(t, map[string]int32{"replies": 1})
			for topic, n := range map[string]int32{"requests": tc.exist.requests, "more": tc.exist.more, "g-table": tc.exist.table, "g-loop": tc.exist.loop} {
				if n == 0 {
					continue
				}
				config := map[string]string{}
				if topic == "g-table" {
					config["cleanup.policy"] = "compact"
				}
				if err := k.Cluster().CreateTopic(topic, n, config); err != nil {
					t.Fatal(err)
				}
			}
			if tc.exist.table > 0 {
				client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				row := &kgo.Record{Topic: "g-table", Partition: tc.row, Key: []byte("k"), Value: []byte("v")}
				if err := client.ProduceSync(within(t), row).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			topics := openTopics(t, c)
			needs := group(0, "requests")
			if tc.exist.more > 0 {
				needs = group(0, "requests", "more")
			}
			if tc.before > 0 {
				var err error
				if needs.TableID, err = topics.ID("g-table"); err != nil {
					t.Fatal(err)
				}
				needs.Partitions = tc.before
			}
			got, err := topics.Ensure(within(t), needs)
			if tc.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wrong) {
					t.Errorf("%d, %v; want %s", got, err, tc.wrong)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Errorf("%d partitions, %v; want %d", got, err, tc.want)
			}
			if keys, err := topics.KeyPartitions("g-table", "g-loop"); tc.before == 0 && (err != nil || keys != tc.want) {
				t.Errorf("keys in %d partitions, %v; want %d", keys, err, tc.want)
			}
		})
	}
}

// A producer writes no key to a partition that the group does not have, and none where its own is missing.
func TestKeysOfAProducerStayInTheirPartitions(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"grown": 5, "small": 2, "plain": 5})
	c.KeyPartitions = map[string]int32{"grown": 3, "small": 3}
	p, err := kafka.NewProducer(c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	send := func(topic, key string) (wire.Pin, error) {
		var pin wire.Pin
		sent := make(chan error, 1)
		p.SendPinned(wire.Record{Topic: topic, Key: []byte(key)}, &pin, func(_ int64, err error) { sent <- err })
		return pin, <-sent
	}
	for _, key := range strings.Split("abcdefghijklmnop", "") {
		for topic, n := range map[string]int32{"grown": 3, "plain": 5} {
			if pin, err := send(topic, key); err != nil || pin.Partition() != wire.Partition([]byte(key), n) {
				t.Errorf("topic %s, key %s: partition %d, %v; want %d", topic, key, pin.Partition(), err, wire.Partition([]byte(key), n))
			}
		}
		if _, err := send("small", key); err == nil || !strings.Contains(err.Error(), `topic "small" has 2 partitions, and keys in 3`) {
			t.Errorf("key %s: %v", key, err)
		}
	}
}

func TestReaderCounts(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"a": 2, "b": 1})
	r := newReader(t, c)
	want := func(a, b int) {
		t.Helper()
		got, err := r.Count(within(t), []string{"a", "b", "missing"})
		if err != nil || got["a"] != a || got["b"] != b || len(got) != 2 {
			t.Errorf("%v, %v; want %d and %d", got, err, a, b)
		}
	}
	want(2, 1)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if added, err := kadm.NewClient(client).CreatePartitions(context.Background(), 3, "b"); err != nil || added.Error() != nil {
		t.Fatal(err, added.Error())
	}
	want(2, 4)
}
