package containers_test

import (
	"testing"
	"time"

	"kafkagrpc/e2e/chaos/history"
)

// One instance cannot reach Kafka for longer than its session lives. The others take over in the meantime; when it is
// back, nothing of what it had begun contradicts what they have done.
func TestNetworkCut(t *testing.T) {
	w := newWorld(t, 200, slow)
	w.start(0, 1, 2)
	w.pause(calm)
	i := w.instances[0]
	from := time.Now()
	i.cut()
	w.pause(sessionTimeout + 2*calm)
	answeredDuring := w.answeredPartitions(from.Add(sessionTimeout + calm))
	i.heal()
	w.fault(history.Cut, i, from)
	if len(answeredDuring) != partitions {
		t.Errorf("while an instance was cut off, requests were answered in the partitions %v only", answeredDuring)
	}
	healed := time.Now()
	i.waitReady()
	w.pause(sessionTimeout + calm)
	events := w.judge(map[string]int{history.Cut: 1})
	if by := executedBy(events, healed); by[i.name] == 0 {
		t.Errorf("the instance has executed nothing since it can reach Kafka again: %v", by)
	}
}

// answeredPartitions are those of the request topic in which a request sent after a time is answered.
func (w *world) answeredPartitions(since time.Time) map[int32]bool {
	at, answered := map[string]int32{}, map[int32]bool{}
	events := w.recorder.Events()
	for _, e := range events {
		if e.Kind == history.Sent && e.At.After(since) {
			at[e.Attempt] = e.Partition
		}
	}
	for _, e := range events {
		if partition, known := at[e.Attempt]; known && e.Kind == history.Reply {
			answered[partition] = true
		}
	}
	return answered
}
