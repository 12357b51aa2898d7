package grpcout

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"
)

const (
	// lookupTimeout bounds one question to the name server.
	lookupTimeout = 5 * time.Second
	// A name whose connections fail is looked up again at once, but not more often than this.
	lookupPause = 50 * time.Millisecond
	// lookupPauseMost is how rarely a name is asked for that the name server does not know.
	lookupPauseMost = time.Second
	// namesRefresh is how often a name is looked up whose connections are well: instances that were added are found
	// within this time.
	namesRefresh = 10 * time.Second
)

// names resolves the host of a target to all its addresses, again and again. grpc-go's own resolver would ask only
// after a connection failed, and at most every 30 seconds: that long a service would stay lost that came back at
// another address, and one that grew would not be noticed.
type names struct {
	lookup  func(ctx context.Context, host string) ([]string, error)
	refresh time.Duration
}

// scheme of the targets that names resolves.
func (names) Scheme() string { return "names" }

// dialTarget says who resolves an address: names, or where there is nothing to resolve, grpc-go.
func dialTarget(address string) string {
	if strings.HasPrefix(address, "unix:") {
		return address
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "" || net.ParseIP(host) != nil {
		return "passthrough:///" + address
	}
	return names{}.Scheme() + ":///" + address
}

func (n names) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	host, port, err := net.SplitHostPort(target.Endpoint())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &hostResolver{names: n, host: host, port: port, cc: cc, cancel: cancel, now: make(chan struct{}, 1)}
	r.running.Go(func() { r.run(ctx) })
	return r, nil
}

// hostResolver keeps one connection's addresses up to date until it is closed.
type hostResolver struct {
	names
	host, port string
	cc         resolver.ClientConn
	cancel     context.CancelFunc
	running    sync.WaitGroup
	now        chan struct{} // has room for one: a connection failed
}

// ResolveNow is grpc-go's word that a connection failed.
func (r *hostResolver) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case r.now <- struct{}{}:
	default:
	}
}

func (r *hostResolver) Close() {
	r.cancel()
	r.running.Wait()
}

func (r *hostResolver) run(ctx context.Context) {
	pause := lookupPause
	for {
		next := r.refresh
		if err := r.resolve(ctx); err != nil {
			next = pause
			pause = min(2*pause, lookupPauseMost)
			// Old addresses stay in use; without any, calls fail with this.
			r.cc.ReportError(err)
		} else {
			pause = lookupPause
		}
		if !r.rest(ctx, next) {
			return
		}
	}
}

// rest waits for the time of the next lookup, and is false at the end.
func (r *hostResolver) rest(ctx context.Context, next time.Duration) bool {
	soonest, latest := time.NewTimer(lookupPause), time.NewTimer(next)
	defer soonest.Stop()
	defer latest.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-soonest.C:
	}
	select {
	case <-ctx.Done():
		return false
	case <-latest.C:
	case <-r.now:
	}
	return true
}

func (r *hostResolver) resolve(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addresses, err := r.lookup(asking, r.host)
	if err != nil {
		return err
	}
	var state resolver.State
	for _, a := range addresses {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: net.JoinHostPort(a, r.port)}}})
	}
	// An error would say that the balancer cannot use them; its picker says so to the calls.
	_ = r.cc.UpdateState(state)
	return nil
}
