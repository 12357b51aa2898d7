package main

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"kafkagrpc/cmd/kafka-grpc/app"
	"kafkagrpc/internal/filewatch"
	"kafkagrpc/topology"
)

// When a changed configuration is reloaded: soon, but not while it is still being written, and not more often than once a second.
const (
	watchQuiet = 100 * time.Millisecond
	watchMost  = time.Second
	watchPoll  = 2 * time.Second
)

// When a reload is tried again that waits for somebody who could not be asked: the wait doubles.
const (
	retryFirst = time.Second
	retryMost  = time.Minute
)

// reloadRequests are requests for a reload, with room for one: who is not heard yet reads what is there then.
type reloadRequests chan struct{}

func (r reloadRequests) request() {
	select {
	case r <- struct{}{}:
	default:
	}
}

// configSource is where the configuration of run comes from, again and again.
type configSource struct {
	file     fileFlags
	env      func(string) (string, bool)
	embedded bool // Kafka is in this process
	log      *slog.Logger
	read     filewatch.Contents // when it was loaded last, also where that failed
}

// load loads the configuration as it is now.
func (s *configSource) load() (*topology.Topology, error) {
	s.read = filewatch.Contents{}
	o := s.file.options(s.env)
	o.Read = s.read.Note
	t, err := s.file.loadWith(o)
	if err != nil {
		return nil, err
	}
	if s.embedded {
		for _, cluster := range t.Clusters() {
			cluster.TLS, cluster.SASL = nil, nil // it speaks neither, and loopback needs neither
		}
	}
	return t, nil
}

// follow reloads a's configuration when it changes, if that is watched, and for each of reloads, until ctx ends or stop is called, which waits.
func (s *configSource) follow(ctx context.Context, a *app.App, watched bool, reloads reloadRequests) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	again, wait := time.AfterFunc(retryMost, reloads.request), time.Duration(0)
	again.Stop()
	reload := func() filewatch.Contents {
		if again.Stop(); a.Reload(ctx, s.load) {
			wait = min(max(2*wait, retryFirst), retryMost)
			again.Reset(wait)
		} else {
			wait = 0
		}
		return s.read
	}
	if info, err := os.Stat(s.file.config); err == nil && !info.Mode().IsRegular() {
		// Such as a pipe, which can be read once.
		s.log.Info("the configuration is not a regular file: it is not reloaded", "file", s.file.config)
		return cancel
	}
	w := filewatch.Watch{Read: topology.ReadFile, Quiet: watchQuiet, Most: watchMost, Poll: watchPoll, Log: s.log}
	following.Go(func() {
		defer again.Stop()
		if watched {
			w.Run(ctx, s.read, reloads, reload)
			return
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-reloads:
				reload()
			}
		}
	})
	return func() {
		cancel()
		following.Wait()
	}
}
