package topology

import "time"

// Server bounds the connections and messages of a listener. What is 0 has its default.
type Server struct {
	MaxMessage            int           `yaml:"max-message" is:"size" default:"4MiB" doc:"bytes of a request message"`
	MaxConcurrentStreams  int           `yaml:"max-concurrent-streams" is:"count" default:"1000" doc:"calls at once on one connection"`
	MaxConnectionAge      time.Duration `yaml:"max-connection-age" is:"duration" doc:"age of a connection at which clients are asked to connect again; without it, never"`
	MaxConnectionAgeGrace time.Duration `yaml:"max-connection-age-grace" is:"duration" doc:"what the calls of such a connection get then; without it, no limit"`
	KeepaliveTime         time.Duration `yaml:"keepalive.time" is:"duration" default:"1m" doc:"a connection without traffic is probed after this"`
	KeepaliveTimeout      time.Duration `yaml:"keepalive.timeout" is:"duration" default:"20s" doc:"a probed connection is closed when no answer comes in this"`
	KeepaliveMinTime      time.Duration `yaml:"keepalive.min-time" is:"pause" default:"5s" doc:"clients that probe more often are cut off; 0: none"` // AnyKeepalive: none
}

// AnyKeepalive is the KeepaliveMinTime of a listener that takes any number of probes.
const AnyKeepalive time.Duration = -1

// WithDefaults fills in what is 0.
func (s Server) WithDefaults() Server { return withDefaults(s) }

// server is what the options of a grpc server binding say.
func (c *compiler) server(spec *grpcServer) Server {
	s := &spec.Options.Server
	grace := c.texts[&s.MaxConnectionAgeGrace]
	if grace.ok && !c.texts[&s.MaxConnectionAge].given {
		c.report.problem(grace.position, "%s has no effect without `max-connection-age`; add it or remove this", grace.place)
	}
	return *s
}
