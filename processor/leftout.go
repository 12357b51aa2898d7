package processor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"kafkagrpc/internal/kafka"
)

// leftOutInterval is how often the topics that are left out are looked at again.
const leftOutInterval = 10 * time.Second

// leaveOut takes from needs what cannot be used any more, while the program runs, so that the routes on other topics
// go on. The requests in a request topic that is left out wait there; those whose reply topic is, become dead letters.
// Where no request topic can be used, nothing is left out, and the check of the topics says why.
func (p *Processor) leaveOut(topics *kafka.Topics, needs *kafka.Needs) error {
	unusable, err := topics.Unusable(*needs)
	if err != nil {
		return err
	}
	without := func(names []string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return unusable[name] != nil })
	}
	if inputs := without(needs.Inputs); len(inputs) > 0 {
		needs.Inputs = inputs
	} else {
		for _, name := range needs.Inputs {
			delete(unusable, name)
		}
	}
	needs.Outputs = without(needs.Outputs)
	p.missing.LeaveOut(unusable)
	for topic, why := range unusable {
		p.config.Log.Warn("a topic is left out until it can be used: requests in it wait, and requests that it should take the replies of become dead letters",
			"topic", topic, "error", why)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = unusable
	return nil
}

// leftOut is the topics that are left out, and why.
func (p *Processor) leftOut() map[string]error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.left
}

// errUsable ends a goka processor, for one that uses all topics that can be used.
var errUsable = errors.New("topics that were left out can be used again")

// watchLeftOut calls end when a topic that was left out can be used again. It ends with ctx.
func (p *Processor) watchLeftOut(ctx context.Context, end context.CancelCauseFunc) {
	left := p.leftOut()
	if len(left) == 0 {
		return
	}
	tick := time.NewTicker(leftOutInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		unusable, err := p.unusable()
		if err != nil {
			p.config.Log.Debug("the topics that are left out could not be looked at", "error", err)
			continue
		}
		for _, topic := range slices.Sorted(maps.Keys(left)) {
			if unusable[topic] == nil {
				end(fmt.Errorf("%w: %s", errUsable, topic))
				return
			}
		}
	}
}

// unusable asks which topics cannot be used now.
func (p *Processor) unusable() (_ map[string]error, err error) {
	topics, err := kafka.OpenTopics(p.cluster)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, topics.Close()) }()
	return topics.Unusable(p.needs())
}

// needs are the topics of the binding.
func (p *Processor) needs() kafka.Needs {
	return kafka.Needs{
		Inputs: p.config.Remote.Inputs(), Outputs: p.config.Remote.Outputs(), Compactable: p.config.Remote.Compactable(),
		Table: p.config.Remote.Table, Loop: p.config.Remote.Loop, DeadLetters: p.config.Remote.Processing.DeadLetter,
		Create: p.config.CreateTopics, TableID: p.tableID, Partitions: int(p.partitions.Load()),
	}
}
