package deadletter

import (
	"slices"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// Source is a dead-letter topic with the requests that it may have.
type Source struct {
	Binding string // the first kafka-grpc binding that keeps its letters there
	Topic   string
	Cluster kafka.Cluster
	Inputs  []string // the request topics that letters may go to
	// Contract reads the request of a letter.
	Contract func(Letter) wire.Contract
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
		var sharing []topology.Remote
		for _, r := range remotes[i:] {
			if shares(r) {
				sharing, source.Inputs = append(sharing, r), append(source.Inputs, r.Inputs()...)
			}
		}
		source.Contract = func(letter Letter) wire.Contract {
			for _, r := range sharing {
				if slices.Contains(r.Inputs(), letter.Cause.Topic) {
					return r.Contract
				}
			}
			return remote.Contract
		}
		out = append(out, source)
	}
	return out
}

// Method is the method that a letter's request calls, as "package.Service/Method", or "" where it does not say.
func (s Source) Method(l Letter) string {
	request := l.Request(s.Contract(l))
	if request.Service == "" && request.Method == "" {
		return ""
	}
	return request.FullMethod()
}

// Picks is whether a letter passes a filter.
func (s Source) Picks(f Filter) func(Letter) bool {
	return func(l Letter) bool { return f.matches(l, func() string { return s.Method(l) }) }
}
