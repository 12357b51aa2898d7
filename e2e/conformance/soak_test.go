package conformance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/e2e/realkafka"
)

const (
	soakCallers = 10
	soakPause   = 200 * time.Millisecond // of a caller between two calls
	soakRounds  = 20                     // messages of a stream, each way
	soakWarm    = 100                    // calls before the first look
	soakFlat    = 10 * time.Minute       // from which length on memory has to be flat
)

// Streams of all kinds go through the program for a while, whole and canceled, late and failed; then nothing of them is left: no goroutine,
// no call at the service, no offset held back. KAFKA_GRPC_SOAK is for how long; the published figures are of 30 minutes.
func TestSoak(t *testing.T) {
	length := time.Minute
	if given := os.Getenv("KAFKA_GRPC_SOAK"); given != "" {
		var err error
		length, err = time.ParseDuration(given)
		must(t, err)
	}
	w := newWorld(t, realkafka.Start(t, realkafka.Options{}).Brokers())
	w.service.otherwise = soakService

	// What an idle program has, after calls of every kind: its connections and workers.
	w.soak(t, "warm", func(calls int64) bool { return calls >= soakWarm })
	before := w.goroutines(t)
	must(t, w.instance.Start())
	must(t, w.instance.WaitReady())

	w.soak(t, "again", func(calls int64) bool { return calls >= soakWarm })
	began := time.Now()
	rss := []int{w.memory(t)}
	sampled := began
	calls := w.soak(t, "soak", func(int64) bool {
		if now := time.Now(); now.Sub(sampled) >= length/100 {
			sampled = now
			rss = append(rss, w.memory(t))
		}
		return time.Since(began) >= length
	})
	rss = append(rss, w.memory(t))
	after := w.goroutines(t)

	t.Logf("%d calls in %v; memory %d MiB at first, %d MiB at last, %d MiB at most", calls, length, rss[0]>>20, rss[len(rss)-1]>>20, slices.Max(rss)>>20)
	t.Logf("goroutines of the idle program: %d before, %d after; calls left at the service, and offsets held back: 0", total(before), total(after))
	// A leak of one in a hundred calls would be dozens; a connection more or less is a few.
	for origin, n := range after {
		if n-before[origin] > 4 {
			t.Errorf("%d goroutines of %s, %d before", n, origin, before[origin])
		}
	}
	if total(after) > total(before)+10 {
		t.Errorf("%d goroutines after %d calls, %d before: %v", total(after), calls, total(before), after)
	}
	if length >= soakFlat {
		// The table and its cache fill at first, so the first fifth does not count.
		tenth := len(rss) / 10
		early, late := median(rss[2*tenth:4*tenth]), median(rss[len(rss)-tenth:])
		t.Logf("memory %d MiB after a fifth of the time, %d MiB in its last tenth", early>>20, late>>20)
		if late > early+early/4 {
			t.Errorf("memory grew from %d MiB to %d MiB", early>>20, late>>20)
		}
	}
}

func median(all []int) int {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

func total(of map[string]int) (n int) {
	for _, m := range of {
		n += m
	}
	return n
}

// soak calls until enough, which is asked by one goroutine, and answers how many calls there were. When it returns, the program has
// nothing to do any more.
func (w *world) soak(t *testing.T, name string, enough func(calls int64) bool) int64 {
	t.Helper()
	var calls atomic.Int64
	var problems sync.Map
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var callers sync.WaitGroup
	for caller := range soakCallers {
		callers.Go(func() {
			pause := time.NewTicker(soakPause)
			defer pause.Stop()
			for n := 0; ctx.Err() == nil; n++ {
				kind := soakKinds[(caller+n)%len(soakKinds)]
				if err := kind.call(w, fmt.Sprintf("%s.%d.%d", name, caller, n)); err != nil {
					problems.Store(kind.name, err)
					stop()
				}
				calls.Add(1)
				select {
				case <-pause.C:
				case <-ctx.Done():
				}
			}
		})
	}
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for ctx.Err() == nil && !enough(calls.Load()) {
		select {
		case <-look.C:
		case <-ctx.Done():
		}
	}
	stop()
	callers.Wait()
	problems.Range(func(kind, err any) bool {
		t.Errorf("%s: %v", kind, err)
		return true
	})
	if t.Failed() {
		t.FailNow()
	}
	idle, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := &stage{world: w, t: t, ctx: idle}
	s.until("the end of all calls at the service", func() bool { return w.service.openCalls() == 0 })
	s.committed(wholeRequests)
	return calls.Load()
}

// soakKinds are what callers do, in turn.
var soakKinds = []struct {
	name string
	call func(w *world, key string) error
}{
	{"unary", func(w *world, key string) error {
		c := w.soakCall(key, "Unary", "echo")
		return c.over(c.send("hi"), c.CloseSend(), c.receive("hi"), c.end(codes.OK))
	}},
	{"duplicate", func(w *world, key string) error {
		for range 2 {
			c := w.soakCall(key, "Unary", "echo")
			if err := c.over(c.send("hi"), c.CloseSend(), c.receive("hi"), c.end(codes.OK)); err != nil {
				return err
			}
		}
		return nil
	}},
	{"unary, 100 kB", func(w *world, key string) error {
		c := w.soakCall(key, "Unary", "echo")
		return c.over(c.send(hundredKB), c.CloseSend(), c.receive(hundredKB), c.end(codes.OK))
	}},
	{"client stream", func(w *world, key string) error {
		c := w.soakCall(key, "ClientStream", "count")
		var err error
		for range soakRounds {
			err = errors.Join(err, c.send("m"))
		}
		return c.over(err, c.CloseSend(), c.receive(strconv.Itoa(soakRounds)), c.end(codes.OK))
	}},
	{"server stream", func(w *world, key string) error {
		c := w.soakCall(key, "ServerStream", "stream")
		err := errors.Join(c.send("hi"), c.CloseSend())
		for n := range soakRounds {
			err = errors.Join(err, c.receive(strconv.Itoa(n)))
		}
		return c.over(err, c.end(codes.OK))
	}},
	{"bidi stream", func(w *world, key string) error {
		c := w.soakCall(key, "BidiStream", "echo")
		var err error
		for n := range soakRounds {
			err = errors.Join(err, c.send(strconv.Itoa(n)), c.receive(strconv.Itoa(n)))
		}
		return c.over(err, c.CloseSend(), c.end(codes.OK))
	}},
	{"cancel in a stream", func(w *world, key string) error {
		c := w.soakCall(key, "BidiStream", "echo")
		err := errors.Join(c.send("one"), c.receive("one"))
		c.cancel()
		return c.over(err, c.end(codes.Canceled))
	}},
	{"cancel after half-close", func(w *world, key string) error {
		c := w.soakCall(key, "ServerStream", "begin")
		err := errors.Join(c.send("hi"), c.CloseSend(), c.receive("begun"))
		c.cancel()
		return c.over(err, c.end(codes.Canceled))
	}},
	{"late", func(w *world, key string) error {
		c := w.soakCallWithin(200*time.Millisecond, key, "Unary", "hang")
		return c.over(c.send("hi"), c.CloseSend(), c.end(codes.DeadlineExceeded))
	}},
	{"aborted", func(w *world, key string) error {
		c := w.soakCall(key, "BidiStream", "abort")
		return c.over(c.send("one"), c.end(codes.Aborted))
	}},
}

// soakService does what a call's metadata asks for.
func soakService(c *serviceCall) error {
	switch script := c.md.Get("script")[0]; script {
	case "echo":
		return echo(c)
	case "count":
		all, err := c.receiveAll()
		if err != nil {
			return err
		}
		return c.send(strconv.Itoa(len(all)))
	case "stream":
		var all []string
		for n := range soakRounds {
			all = append(all, strconv.Itoa(n))
		}
		return stream(all...)(c)
	case "begin", "hang":
		if _, err := c.receive(); err != nil {
			return err
		}
		if script == "begin" {
			if err := c.send("begun"); err != nil {
				return err
			}
		}
		return c.untilCanceled(context.Background())
	case "abort":
		if _, err := c.receive(); err != nil {
			return err
		}
		return status.Error(codes.Aborted, "not any more")
	default:
		return status.Errorf(codes.Internal, "no script %q", script)
	}
}

// soakCall is a call whose methods answer what is wrong, for goroutines that are not the test's own. Each must end with over.
type soakCall struct {
	grpc.ClientStream
	cancel context.CancelFunc
	failed error
}

func (w *world) soakCall(key, method, script string) *soakCall {
	ctx, cancel := context.WithCancel(context.Background())
	stop := time.AfterFunc(patience, cancel) // a bound of the test, not a deadline of the caller
	return w.soakStream(ctx, func() { stop.Stop(); cancel() }, key, method, script)
}

func (w *world) soakCallWithin(deadline time.Duration, key, method, script string) *soakCall {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	return w.soakStream(ctx, cancel, key, method, script)
}

func (w *world) soakStream(ctx context.Context, cancel context.CancelFunc, key, method, script string) *soakCall {
	ctx = metadata.AppendToOutgoingContext(ctx, "idempotency-key", key, "script", script)
	stream, err := w.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/conformance.Whole/"+method, grpc.WaitForReady(true))
	return &soakCall{stream, cancel, err}
}

func (c *soakCall) send(s string) error {
	if c.failed != nil {
		return c.failed
	}
	message := text(s)
	if err := c.SendMsg(&message); err != nil && !errors.Is(err, io.EOF) { // the end tells why
		return err
	}
	return nil
}

func (c *soakCall) CloseSend() error {
	if c.failed != nil {
		return c.failed
	}
	return c.ClientStream.CloseSend()
}

func (c *soakCall) receive(want string) error {
	if c.failed != nil {
		return c.failed
	}
	var message []byte
	if err := c.RecvMsg(&message); err != nil {
		return err
	}
	if got := textOf(message); got != want {
		return fmt.Errorf("got %.40q, not %.40q", got, want)
	}
	return nil
}

func (c *soakCall) end(want codes.Code) error {
	if c.failed != nil {
		return c.failed
	}
	var message []byte
	err := c.RecvMsg(&message)
	if err == nil {
		return fmt.Errorf("got %.40q after the last message", textOf(message))
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if status.Code(err) != want {
		return fmt.Errorf("ended with %v, not with %v", err, want)
	}
	return nil
}

// over gives back what the call holds here.
func (c *soakCall) over(errs ...error) error {
	c.cancel()
	return errors.Join(errs...)
}

// goroutine is the end of a goroutine's stack: where it was started.
var goroutine = regexp.MustCompile(`(?m)^goroutine [0-9]+ .*\[.*\]:$`)

// goroutines ends the program as SIGQUIT does, which prints the stack of each goroutine, and counts them by where they were started.
func (w *world) goroutines(t *testing.T) map[string]int {
	t.Helper()
	must(t, w.instance.Signal(syscall.SIGQUIT))
	must(t, w.instance.WaitEnd(patience))
	log, err := os.ReadFile(w.instance.LogFile)
	must(t, err)
	log = log[max(0, bytes.LastIndex(log, []byte("SIGQUIT: quit"))):]
	count := map[string]int{}
	started := goroutine.FindAllIndex(log, -1)
	for i, at := range started {
		end := len(log)
		if i+1 < len(started) {
			end = started[i+1][0]
		}
		origin := "main"
		if _, by, ok := strings.Cut(string(log[at[1]:end]), "created by "); ok {
			origin, _, _ = strings.Cut(by, " in goroutine")
			origin, _, _ = strings.Cut(origin, "\n")
		}
		count[origin]++
	}
	if len(count) == 0 {
		t.Fatalf("the program printed no goroutines:\n%s", log)
	}
	return count
}

// memory is the resident memory of the program, in bytes.
func (w *world) memory(t *testing.T) int {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.instance.PID()))
	must(t, err)
	found := regexp.MustCompile(`VmRSS:\s+([0-9]+) kB`).FindSubmatch(content)
	if found == nil {
		t.Fatalf("no VmRSS in %s", content)
	}
	n, err := strconv.Atoi(string(found[1]))
	must(t, err)
	return n << 10
}
