package preflight

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"time"

	"kafkagrpc/grpcout"
	"kafkagrpc/topology"
)

// targetTimeout bounds what one address of a service may take.
const targetTimeout = 8 * time.Second

// targets tries every address of every service, at the same time.
func targets(ctx context.Context, t *topology.Topology) []Finding {
	ctx, cancel := context.WithTimeout(ctx, targetTimeout)
	defer cancel()
	services := t.Targets()
	found := make([][]Finding, len(services))
	var trying sync.WaitGroup
	for i, s := range services {
		trying.Go(func() { found[i] = service(ctx, s) })
	}
	trying.Wait()
	var all []Finding
	for _, f := range found {
		all = append(all, f...)
	}
	return all
}

// service tries the addresses of one service one by one: a name is a service with several, each of which may be ill.
func service(ctx context.Context, s topology.Target) []Finding {
	host, port, err := net.SplitHostPort(s.Address)
	if strings.HasPrefix(s.Address, "unix:") || err != nil || net.ParseIP(host) != nil {
		return []Finding{address(ctx, s, s.Address, s.String())}
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return []Finding{{"target", s.String(), Failed, err.Error()}}
	}
	all := make([]Finding, len(addresses))
	var trying sync.WaitGroup
	for i, a := range addresses {
		at := net.JoinHostPort(a, port)
		trying.Go(func() { all[i] = address(ctx, s, at, s.String()+" at "+at) })
	}
	trying.Wait()
	return all
}

func address(ctx context.Context, s topology.Target, at, name string) Finding {
	target := grpcout.Target{Scheme: s.Scheme, Authority: s.Authority, Address: at}
	var mu sync.Mutex
	var state *tls.ConnectionState
	if s.TLS != nil {
		target.TLS = s.TLS.Config.Clone()
		target.TLS.VerifyConnection = func(c tls.ConnectionState) error {
			mu.Lock()
			defer mu.Unlock()
			state = &c
			return nil
		}
	}
	client := grpcout.New(grpcout.Options{})
	health, err := client.Health(ctx, target)
	f := Finding{"target", name, OK, health}
	if closed := client.Close(); err == nil {
		err = closed
	}
	if err != nil {
		f.Result, f.Detail = Failed, err.Error()
		return f
	}
	mu.Lock()
	defer mu.Unlock()
	f.secured(state)
	return f
}
