package app

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/pprof"

	"kafkagrpc/internal/admin"
	"kafkagrpc/internal/admin/access"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/views"
)

// Admin is the address for operators: probes, metrics, views, dead letters and profiles. On an address that other machines can reach, it
// shows nothing but probes without a Token or a CA of clients.
type Admin struct {
	Addr      string      // host:port, with port 0 for any that is free
	Advertise string      // host:port where other instances reach it; default: where it listens
	Token     string      // is to be shown for everything but probes; "": none
	TLS       *tls.Config // nil: HTTP. A certificate of its ClientCAs is as good as the token
	Peers     *tls.Config // with which other instances are asked; nil: HTTP
	Profiles  bool        // Go's profiles of this process are served
}

// startAdmin opens the admin address. The parts of the app add themselves when they start.
func (a *App) startAdmin(ctx context.Context) (err error) {
	c := a.c.Admin
	if c == nil {
		return nil
	}
	options := admin.Options{Addr: c.Addr, TLS: c.TLS, Log: a.c.Log}
	guard := access.Guard{
		Token: c.Token, Clients: c.TLS != nil && c.TLS.ClientCAs != nil, Loopback: access.Loopback(c.Addr), Open: []string{views.PagePath},
	}
	if guard.Token != "" || guard.Clients || guard.Loopback { // else the server shows probes alone
		options.Guard = guard.Wrap
	}
	if a.admin, err = admin.Listen(options); err != nil {
		return err
	}
	a.mountMetrics()
	if c.Profiles {
		mountProfiles(a.admin)
	}
	a.addPart(admin.Part{Name: "app", Check: a.serves})
	for _, cluster := range a.c.Topology.Clusters() {
		a.addPart(admin.Part{Name: "kafka " + cluster.Binding, MaxAge: pingAge, Check: kafka.ClusterOf(cluster, "kafka-grpc-readyz").Ping})
	}
	a.run(ctx, a.admin.Serve)
	return nil
}

// mountProfiles serves Go's profiles, as net/http/pprof does, but for the command line, which may hold what is nobody's business.
func mountProfiles(s *admin.Server) {
	for path, h := range map[string]http.HandlerFunc{
		"": pprof.Index, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
	} {
		s.Handle("/debug/pprof/"+path, h)
	}
}
