package grpcin

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// unfit says why a record of a topic does not fit what the topic asks for, as the end of a sentence; "" where it does.
func (s *Server) unfit(topic *topology.TopicModel, key, value []byte) string {
	if topic == nil {
		return ""
	}
	for _, m := range topic.Keys {
		if err := s.options.Models.Check(m, key); err != nil {
			return "its key does not fit model " + m.Name + ": " + err.Error()
		}
	}
	for _, m := range topic.Values {
		if err := s.options.Models.Check(m, value); err != nil {
			return "its value does not fit model " + m.Name + ": " + err.Error()
		}
	}
	return ""
}

// prepare checks a message of the caller against what the request topic asks for, before anything of it is written. The first one says the key of
// the call, where the topic takes it from there. It answers the headers that the message adds to its record.
func (s *Server) prepare(c *call, message []byte, first bool) (headers []wire.Header, err error) {
	topic := c.route.Requests
	if topic == nil {
		return nil, nil
	}
	if first && topic.Key != nil {
		key, err := s.options.Models.Extract(*topic.Key, message)
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "the message does not fit topic %q: %v", c.route.Topic, err)
		}
		if len(key) == 0 {
			return nil, status.Errorf(codes.InvalidArgument, "the message has no %s, which is the key of its record on topic %q", topic.Key.Text, c.route.Topic)
		}
		c.out.key = key
	}
	if why := s.unfit(topic, c.out.key, message); why != "" {
		return nil, status.Errorf(codes.InvalidArgument, "the message does not fit topic %q: %s", c.route.Topic, why)
	}
	for _, e := range topic.Headers {
		text, err := s.options.Models.Extract(e, message)
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "the message does not fit topic %q: %v", c.route.Topic, err)
		}
		if text != nil {
			headers = append(headers, wire.Header{Name: e.Header, Value: text})
		}
	}
	return headers, nil
}
