package views_test

import (
	"io"
	"log/slog"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/logtest"
	"kafkagrpc/views"
)

// A large table takes long to be read for the first time: the log says how far it is, and is silent afterwards.
func TestLogTellsTheRecovery(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	b.put("a", aRow())
	log := new(logtest.Lines)
	b.config = func(c *views.Config) {
		c.Log = slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), log), nil))
	}
	gate := make(chan struct{})
	cluster := b.kafka.Cluster()
	cluster.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		select {
		case <-gate:
			return nil, nil, false
		default:
		}
		cluster.KeepControl()
		if request.(*kmsg.FetchRequest).MaxWaitMillis > 0 { // goka reads; others only look for the end
			cluster.SleepControl(func() { <-gate })
		}
		return nil, nil, false
	})
	open := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	i := b.start(t.TempDir())
	b.eventually("the log tells the recovery", func() bool {
		return log.Count(`msg="the view has not caught up yet"`) > 0 &&
			log.Count(`reason="1 of 2 partitions are being recovered, with 1 records to go" records_per_second=0`) > 0
	})
	open()
	b.ready(i)
}
