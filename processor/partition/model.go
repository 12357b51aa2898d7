package partition

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/topology"
)

const classModel = "model"

// fitsModel says why a record does not fit what its topic asks for. Safe for concurrent use.
func (b *Binding) fitsModel(topic *topology.TopicModel, key, value []byte) error {
	if topic == nil {
		return nil
	}
	for _, m := range topic.Keys {
		if err := b.config.Check(m, key); err != nil {
			return fmt.Errorf("the key does not fit model %s of topic %s: %w", m.Name, topic.Topic, err)
		}
	}
	for _, m := range topic.Values {
		if err := b.config.Check(m, value); err != nil {
			return fmt.Errorf("the value does not fit model %s of topic %s: %w", m.Name, topic.Topic, err)
		}
	}
	return nil
}

// unfit keeps the first record of a request that does not fit its topic, and answers the request.
func (t *turn) unfit(a *attempt, unary bool, why error) {
	cause := a.source.cause(why.Error())
	cause.Code = codes.InvalidArgument
	t.deadLetter(a, cause, classModel)
	if unary { // an end may follow, which would be taken for a request without a message
		t.outdated.add(a.id(), nil, time.Now(), t.rules.Load().remote.Processing.StreamIdle)
	}
	t.refuse(a, unary, codes.InvalidArgument, why.Error())
}

// unfitLater keeps a further record of a request that does not fit its topic, and ends the call of the request.
func (t *turn) unfitLater(a, record *attempt, why error) {
	cause := record.source.cause(why.Error())
	cause.Code, cause.Partial = codes.InvalidArgument, true
	t.deadLetter(record, cause, classModel)
	t.happens(a, holeShows, &ending{status: codes.InvalidArgument, message: why.Error(), own: true})
}
