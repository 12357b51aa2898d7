package topology

import "time"

// Server bounds the connections and messages of a listener. What is 0 has its default.
type Server struct {
	MaxMessage            int           // bytes of a request message, default 4 MiB
	MaxConcurrentStreams  int           // calls at once on one connection, default 1000
	MaxConnectionAge      time.Duration // then clients are asked to connect again, default never
	MaxConnectionAgeGrace time.Duration // what their calls get after that, default no limit
	KeepaliveTime         time.Duration // a connection without traffic is probed after this, default 1m
	KeepaliveTimeout      time.Duration // and closed when no answer comes in this, default 20s
	KeepaliveMinTime      time.Duration // clients that probe more often than this are cut off, default 5s, AnyKeepalive for none
}

// Defaults of what a grpc server binding leaves out.
const (
	DefaultMaxConcurrentStreams = 1000
	DefaultKeepaliveTime        = time.Minute
	DefaultKeepaliveTimeout     = 20 * time.Second
	DefaultKeepaliveMinTime     = 5 * time.Second
)

// AnyKeepalive is the KeepaliveMinTime of a listener that takes any number of probes.
const AnyKeepalive time.Duration = -1

// WithDefaults fills in what is 0.
func (s Server) WithDefaults() Server {
	if s.MaxMessage == 0 {
		s.MaxMessage = DefaultMaxMessage
	}
	if s.MaxConcurrentStreams == 0 {
		s.MaxConcurrentStreams = DefaultMaxConcurrentStreams
	}
	if s.KeepaliveTime == 0 {
		s.KeepaliveTime = DefaultKeepaliveTime
	}
	if s.KeepaliveTimeout == 0 {
		s.KeepaliveTimeout = DefaultKeepaliveTimeout
	}
	if s.KeepaliveMinTime == 0 {
		s.KeepaliveMinTime = DefaultKeepaliveMinTime
	}
	return s
}

// server is what the options of a grpc server binding say.
func (c *compiler) server(spec *grpcServer) Server {
	o := &spec.Options
	age, grace := o.MaxConnectionAge, o.MaxConnectionAgeGrace
	if grace.ok && !age.given {
		c.report.problem(grace.position, "%s has no effect without `max-connection-age`; add it or remove this", grace.place)
	}
	minTime := o.Keepalive.MinTime.value
	if o.Keepalive.MinTime.ok && minTime == 0 {
		minTime = AnyKeepalive
	}
	return Server{
		MaxMessage:            o.MaxMessage.value,
		MaxConcurrentStreams:  o.MaxConcurrentStreams.value,
		MaxConnectionAge:      age.value,
		MaxConnectionAgeGrace: grace.value,
		KeepaliveTime:         o.Keepalive.Time.value,
		KeepaliveTimeout:      o.Keepalive.Timeout.value,
		KeepaliveMinTime:      minTime,
	}.WithDefaults()
}
