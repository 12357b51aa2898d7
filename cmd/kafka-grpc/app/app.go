// Package app is one instance at work: it starts the rooms that a topology needs, in an order in which each finds what it needs, tells
// over HTTP whether they are ready, and stops them in reverse order.
//
// It knows nothing of commands, flags and configuration files.
package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"kafkagrpc/grpcin"
	"kafkagrpc/grpcout"
	"kafkagrpc/internal/admin"
	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/revocation"
	"kafkagrpc/internal/statedir"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/processor"
	"kafkagrpc/topology"
)

// Config says what runs. Topology and Log are needed.
type Config struct {
	Topology     *topology.Topology
	StateDir     string // folder of this instance; needed where the topology has remotes
	InstanceID   string // static member id in the consumer groups; default: made once and kept in StateDir
	CreateTopics int    // missing request and reply topics are created with so many partitions; 0: they are an error
	Admin        *Admin // where operators ask; nil: nowhere
	Views        Views  // what happened to a key
	Version      string // of the program, for telemetry

	// NewerProtos is told that a registry has newer protos than the topology is made of, once for each version: it lets Reload be called, and does
	// not wait for that. nil: they are not looked for.
	NewerProtos func()

	Stdout io.Writer // events of calls, where the topology asks for them; nil: none
	Log    *slog.Logger
}

// App is everything that runs for one topology. One goroutine starts it, waits for it and stops it; the other methods are safe for
// concurrent use with that.
type App struct {
	c          Config
	telemetry  *telemetry.Telemetry
	admin      *admin.Server // nil where there is none
	state      *statedir.Dir // nil where the topology has no remotes
	processors []*processor.Processor
	codecs     *codecs
	servers    []*grpcin.Server

	reloading sync.Mutex                        // one at a time
	awaited   string                            // by a reload that may do later: what was told of it
	current   atomic.Pointer[topology.Topology] // that counts: c.Topology is that of the start
	calls     *grpcout.Client                   // of the processors; nil where there are none
	budget    *consumergroup.Budget             // the same
	paces     processor.Paces                   // the same
	direct    *grpcout.Client                   // of calls straight to services; nil without servers
	guards    guards                            // of the servers

	listening atomic.Pointer[[]net.Addr] // of the servers, once all are open
	idle      atomic.Pointer[string]     // why it does not serve; "": it does

	failed chan error                    // has room for one: the first part that ended by itself
	waits  []func(context.Context) error // for each part that makes the app ready
	stops  []func() error                // in the order of starting
}

// Start opens everything. The listeners accept calls when it returns; the partitions may still be recovering. An error leaves nothing
// behind; an App has to be stopped, by Wait or Stop. The end of ctx ends the start alone.
func Start(ctx context.Context, c Config) (*App, error) {
	a := &App{c: c, failed: make(chan error, 1)}
	a.current.Store(c.Topology)
	a.setIdle("starting")
	revocation.LogTo(c.Log)
	for _, start := range []func(context.Context) error{
		a.startTelemetry,
		a.startAdmin, // before the others, so that it says what they wait for
		a.keepTokens,
		a.openState,
		a.startModels,
		a.startProcessors,
		a.startViews,
		a.startListeners,
		a.followProtos,
	} {
		if err := start(ctx); err != nil {
			return nil, errors.Join(err, a.Stop())
		}
	}
	a.setIdle("")
	return a, nil
}

// run starts a part on a goroutine of its own; Stop ends it and waits for it.
func (a *App) run(ctx context.Context, part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() {
		err := part(ctx)
		if ctx.Err() == nil {
			select {
			case a.failed <- err:
			default: // another part was first
			}
			err = nil
		}
		done <- err
	}()
	a.onStop(func() error {
		cancel()
		return <-done
	})
}

func (a *App) onStop(f func() error) { a.stops = append(a.stops, f) }

// WaitReady returns when all partitions are recovered, or all copies with Only have caught up, and lets the servers in front say so.
// It returns an error when ctx ends or a part fails before.
func (a *App) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ready := make(chan error, 1)
	go func() {
		var errs []error
		for _, wait := range a.waits {
			errs = append(errs, wait(ctx))
		}
		ready <- errors.Join(errs...)
	}()
	var err error
	select {
	case err = <-ready:
	case failure := <-a.failed:
		a.failed <- failure // for Wait
		cancel(failure)
		err = <-ready
	}
	for _, s := range a.servers {
		s.SetReady(err == nil)
	}
	return err
}

// Wait returns when ctx ends, or with the error of a part that failed, after everything is stopped.
func (a *App) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		a.c.Log.Info("stopping: calls in flight are finished first")
		return a.Stop()
	case err := <-a.failed:
		return errors.Join(err, a.Stop())
	}
}

// Stop ends everything in reverse order, and waits for it: listeners first, as their calls still need the processors' answers. Once all
// is stopped, it does nothing.
func (a *App) Stop() error {
	a.setIdle("stopping: calls in flight are finished first")
	var errs []error
	for _, f := range slices.Backward(a.stops) {
		errs = append(errs, f())
	}
	a.stops = nil
	return errors.Join(errs...)
}

// Addrs are the addresses of the topology's listeners, in its order; none before all are open.
func (a *App) Addrs() []net.Addr {
	if addrs := a.listening.Load(); addrs != nil {
		return *addrs
	}
	return nil
}

// AdminURL is where operators ask, such as http://127.0.0.1:7190; "" where they cannot.
func (a *App) AdminURL() string {
	if a.admin == nil {
		return ""
	}
	return a.admin.URL()
}

// Processors are those of the topology's remotes, in its order.
func (a *App) Processors() []*processor.Processor { return a.processors }
