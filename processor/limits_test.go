package processor_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/processor/partition"
	"kafkagrpc/topology"
)

// What topics take changes while the processor runs: results are kept and passed on as far as they fit.
func TestLimitsChangeWithTheirTopics(t *testing.T) {
	t.Parallel()
	const large = 2 << 20
	b := newBench(t, 1, func(r *topology.Remote) { r.MaxResult = 3 << 20 })
	b.started()
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		if strings.HasPrefix(call.message, "large") {
			return []byte(strings.Repeat("x", large)), nil
		}
		return []byte(call.message), nil
	})
	calls := 0
	call := func(key string) result {
		calls++
		return b.call(attempt(key, strconv.Itoa(calls)), "large")
	}
	// until calls with keys of their own until the answer says something, "" for OK, and answers the last key.
	until := func(name, says string) (key string) {
		b.eventually(name, func() bool {
			key = fmt.Sprint(name, calls)
			r := call(key)
			return says == "" && r.Status == codes.OK || says != "" && r.Status == codes.ResourceExhausted && strings.Contains(r.Message, says)
		})
		return key
	}

	call("first").check(t, codes.ResourceExhausted, "more than topic test-remote-table can hold of table.max-result (1031")
	b.alter(b.remote.Table, "4000000")
	kept := until("table", "does not fit topic "+replies)
	call(kept).check(t, codes.ResourceExhausted, "topic "+replies+" takes (1048")
	b.alter(replies, "4000000")
	until("replies", "")
	if r := call(kept); r.Status != codes.OK || len(r.messages) != 1 || len(r.messages[0]) != large {
		t.Errorf("the kept result: %v %s, %d messages", r.Status, r.Message, len(r.messages))
	}
	call("first").check(t, codes.ResourceExhausted, "more than topic test-remote-table can hold")

	// What the table holds already stays answered, though it could not be written again.
	b.alter(b.remote.Table, "1000000")
	until("lowered", "more than topic test-remote-table can hold of table.max-result (982")
	if r := call(kept); r.Status != codes.OK || len(r.messages) != 1 || len(r.messages[0]) != large {
		t.Errorf("the kept result, after the table was lowered: %v %s, %d messages", r.Status, r.Message, len(r.messages))
	}
	b.call(attempt("small", "small"), "small").check(t, codes.OK, "", "small")
	b.committed()
}

func TestLimitsThatDoNotFitTogether(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	table, loop, letters := "test-remote-table", "test-remote-loop", "test-remote-dead-letters"
	for _, test := range []struct {
		name      string
		maxResult int
		topics    map[string]int // max.message.bytes
		problem   string
		warnings  []string
	}{
		{name: "all as by default"},
		{name: "all raised", maxResult: 3 * mib, topics: map[string]int{requests: 10 * mib, replies: 10 * mib, table: 10 * mib, loop: 10 * mib, letters: 10 * mib}},
		{name: "max-result alone", maxResult: 3 * mib, warnings: []string{
			"table.max-result (3145728) is more than topic " + table + " has room for (103",
			"table.max-result (3145728) is more than topic " + replies + " has room for (103",
		}},
		{name: "requests alone", topics: map[string]int{requests: 10 * mib}}, // the others are made for them
		{name: "requests, but not what is there for them", topics: map[string]int{requests: 10 * mib, loop: mib, letters: mib}, warnings: []string{
			"topic " + loop + " takes records of 1048515 bytes, fewer than request topic " + requests + " (10485699)",
			"topic " + letters + " takes records of 1048515 bytes, fewer than request topic " + requests + " (10485699)",
		}},
		{name: "a table for nothing", topics: map[string]int{table: 1000}, problem: "topic " + table + " takes records of 939 bytes, which is too small"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1, func(r *topology.Remote) {
				if test.maxResult > 0 {
					r.MaxResult = test.maxResult
				}
			})
			for topic, bytes := range test.topics {
				if topic == requests || topic == replies {
					b.limit(topic, strconv.Itoa(bytes))
				} else if err := b.kafka.Cluster().CreateTopic(topic, 1, map[string]string{"max.message.bytes": strconv.Itoa(bytes)}); err != nil {
					t.Fatal(err)
				}
			}
			topics, err := kafka.OpenTopics(kafka.Cluster{Brokers: b.kafka.Brokers()})
			if err != nil {
				t.Fatal(err)
			}
			defer topics.Close()
			limits := new(kafka.Limits)
			written := []string{replies, table, loop, letters}
			if err := limits.Learn(topics, append(written, requests)...); err != nil {
				t.Fatal(err)
			}
			problems, warnings := partition.Limits(b.remote, limits, written)
			if test.problem == "" && len(problems) > 0 || test.problem != "" && (len(problems) != 1 || !strings.Contains(problems[0].Error(), test.problem)) {
				t.Errorf("problems: %v, want %q", problems, test.problem)
			}
			if len(warnings) != len(test.warnings) {
				t.Fatalf("warnings: %q", warnings)
			}
			for i, w := range test.warnings {
				if !strings.Contains(warnings[i], w) || !strings.Contains(warnings[i], "raise its max.message.bytes by ") {
					t.Errorf("warning %q, want one that says %q", warnings[i], w)
				}
			}
		})
	}
}
