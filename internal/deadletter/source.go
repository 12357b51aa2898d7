package deadletter

import (
	"slices"
	"strings"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// Source is a dead-letter topic with the requests that it may have.
type Source struct {
	Binding string // the first kafka-grpc binding that keeps its letters there
	Topic   string
	Cluster kafka.Cluster
	Inputs  []string          // the request topics that letters may go to
	Remotes []topology.Remote // those that keep their letters there; at least one
}

// Sources are the dead-letter topics of remotes, each once, as remotes may share one.
func Sources(remotes []topology.Remote) []Source {
	var out []Source
	for i, remote := range remotes {
		shares := func(r topology.Remote) bool {
			return r.Processing.DeadLetter == remote.Processing.DeadLetter && slices.Equal(r.Cluster.Brokers, remote.Cluster.Brokers)
		}
		if slices.ContainsFunc(remotes[:i], shares) {
			continue
		}
		source := Source{Binding: remote.Binding, Topic: remote.Processing.DeadLetter, Cluster: kafka.ClusterOf(remote.Cluster, "kafka-grpc-dead-letters")}
		for _, r := range remotes[i:] {
			if shares(r) {
				source.Remotes, source.Inputs = append(source.Remotes, r), append(source.Inputs, r.Inputs()...)
			}
		}
		out = append(out, source)
	}
	return out
}

// remote is the one that reads the topic that a letter came from.
func (s Source) remote(l Letter) topology.Remote {
	for _, r := range s.Remotes {
		if slices.Contains(r.Inputs(), l.Cause.Topic) {
			return r
		}
	}
	return s.Remotes[0]
}

// event is what the route of a letter says of plain events; nil: the letter is a request.
func (s Source) event(l Letter) *topology.Event {
	record := l.Record
	record.Headers = l.Own
	if route, _ := s.remote(l).EventRoute(l.Cause.Topic, record); route != nil {
		return route.Event
	}
	return nil
}

// Request is what a letter says of its call, as far as it can be read. Of a plain event the file says the method, as it is now.
func (s Source) Request(l Letter) wire.Request {
	if e := s.event(l); e != nil {
		r := wire.Request{CorrelationID: l.Cause.Key}
		r.Service, r.Method, _ = strings.Cut(e.Method, "/")
		return r
	}
	return l.Request(s.remote(l).Contract)
}

// method is "package.Service/Method", or "" where a request does not say.
func method(r wire.Request) string {
	if r.Service == "" && r.Method == "" {
		return ""
	}
	return r.FullMethod()
}

// Picks is whether a letter passes a filter.
func (s Source) Picks(f Filter) func(Letter) bool {
	return func(l Letter) bool { return f.matches(l, func() string { return method(s.Request(l)) }) }
}
