package views

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"kafkagrpc/views/viewspb"
)

// However many clients ask, only so many pages are read at once; one whose turn does not come is told so when its time is over.
func TestPagesWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	const most = 8
	reading, read := make(chan struct{}), make(chan struct{})
	s := newService([]Source{slowSource{reading, read}})
	done := make(chan error, most+1)
	ask := func(ctx context.Context) {
		_, err := s.list(ctx, &viewspb.ListRequest{}, nil)
		done <- err
	}
	for range most {
		go ask(t.Context())
		<-reading
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := waitedFor{ctx, make(chan struct{}, 10)}
	go ask(waits)
	<-waits.asked
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("one more is told %v", err)
	}
	go func() { // has places of its own: those that wait here may wait for it
		_, err := s.list(t.Context(), &viewspb.ListRequest{}, []int32{0})
		done <- err
	}()
	<-reading
	read <- struct{}{}
	if err := <-done; err != nil {
		t.Errorf("another instance is told %v", err)
	}
	go ask(t.Context())
	read <- struct{}{} // one is done, and the next one's turn has come
	<-reading
	for range most {
		read <- struct{}{}
	}
	for range most + 1 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// waitedFor tells when somebody waits for its end.
type waitedFor struct {
	context.Context
	asked chan struct{}
}

func (w waitedFor) Done() <-chan struct{} {
	select {
	case w.asked <- struct{}{}:
	default:
	}
	return w.Context.Done()
}

// slowSource reads pages that end when it is told.
type slowSource struct{ reading, read chan struct{} }

func (slowSource) Group() string { return "group" }

func (slowSource) get(context.Context, string, []int32) (*viewspb.GetResponse, error) {
	return nil, errors.ErrUnsupported
}

func (s slowSource) list(ctx context.Context, _ *viewspb.ListRequest, _ []int32) (page, error) {
	select {
	case s.reading <- struct{}{}:
	case <-ctx.Done():
		return page{}, errors.New("a page was read that had to wait")
	}
	<-s.read
	return page{}, nil
}

func (slowSource) watch(context.Context, string, *viewspb.WatchRequest, func(*viewspb.WatchResponse) error) error {
	return errors.ErrUnsupported
}

func (slowSource) stats(context.Context, []int32) *viewspb.TableStats { return nil }

func (slowSource) command(context.Context, command, []string, []int32) ([]*viewspb.CommandResult, error) {
	return nil, errors.ErrUnsupported
}

func TestWatchersOfATable(t *testing.T) {
	t.Parallel()
	f := newFeed()
	f.begin("topic", 1)
	var last *subscription
	subscribe := func(n int) (err error) {
		last, err = f.subscribe(fmt.Sprintf("192.0.2.%d", n%20), place{topic: "topic", stored: []int64{0}})
		return err
	}
	for n := range 2000 {
		if err := subscribe(n); err != nil {
			t.Fatalf("watcher %d: %v", n, err)
		}
	}
	ends := last
	var full *tooMany
	if err := subscribe(2000); !errors.As(err, &full) || !strings.Contains(err.Error(), "2000 watchers") {
		t.Errorf("one more is told %v", err)
	}
	ends.close()
	if err := subscribe(2000); err != nil {
		t.Errorf("where one has ended: %v", err)
	}
}

// Many small changes are no more than few large ones: the feed forgets those that nobody has taken in time.
func TestFeedForgetsSmallChanges(t *testing.T) {
	t.Parallel()
	f := newFeed()
	f.begin("topic", 1)
	const changes = 1<<14 + 10
	for n := range int64(changes) {
		f.add(0, n, "k", nil)
	}
	if len(f.changes) != 1<<14 || f.changes[0].offset != 10 || f.low[0] != 10 {
		t.Errorf("%d changes are kept, from offset %d, and all from %d", len(f.changes), f.changes[0].offset, f.low[0])
	}
}

// The page runs no script but its own, asks nobody else, and is in no other page.
func TestPolicyOfThePage(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	Page{}.Handlers()["GET /{$}"].ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	policy := w.Header().Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "connect-src 'self'", "script-src 'sha256-", "style-src 'sha256-", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("%q is not in the policy: %s", part, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Errorf("the policy allows too much: %s", policy)
	}
}
