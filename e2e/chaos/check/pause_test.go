package check_test

import (
	"testing"
	"time"

	"kafkagrpc/e2e/chaos/check"
	"kafkagrpc/e2e/chaos/history"
)

func TestLongestPause(t *testing.T) {
	t.Parallel()
	request := func(attempt string, partition int32, sent, answered int64) []history.Event {
		return []history.Event{
			{At: at(sent), Kind: history.Sent, Attempt: attempt, Partition: partition, Written: at(sent)},
			{At: at(answered), Kind: history.Reply, Attempt: attempt, Written: at(answered)},
		}
	}
	var events []history.Event
	for _, e := range [][]history.Event{
		request("a", 0, 0, 10),
		request("slow", 0, 20, 5000), // waits all the time, so that each time between two answers is a pause:
		request("b", 0, 1000, 1010),  // 990ms
		request("c", 0, 3000, 3010),  // 2s, and then 1990ms
		request("d", 1, 0, 10),
		request("e", 1, 60000, 60010), // nobody was waiting
		request("f", 1, 60020, 62520),
		request("g", 1, 60030, 62521),
	} {
		events = append(events, e...)
	}
	if p, d := check.LongestPause(events); p != 1 || d != 2500*time.Millisecond {
		t.Errorf("partition %d, %v; want 1, 2.5s", p, d)
	}
	if _, d := check.LongestPause(nil); d != 0 {
		t.Errorf("%v without events", d)
	}
}
