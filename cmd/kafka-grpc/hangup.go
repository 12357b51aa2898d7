package main

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// onHangup calls again for each SIGHUP, which ends a process that does not ask for it. Stop waits until again has returned.
func onHangup(again func()) (stop func()) {
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGHUP)
	var handling sync.WaitGroup
	handling.Go(func() {
		for {
			select {
			case <-signals:
				again()
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(signals)
		close(done)
		handling.Wait()
	}
}
