// Package faults makes what a chaos run suffers: a schedule of faults from a seed, and the instances under test as
// child processes that can be killed, stopped, frozen and started again. It judges nothing.
package faults

import (
	"fmt"
	"math/rand/v2"
	"time"

	"kafkagrpc/e2e/chaos/history"
)

// Step is one fault: what happens, to which instances, and when.
type Step struct {
	Fault     string // of package history
	Instances []int  // killed, stopped one after the other, or frozen; none for the broker and the service
	Before    time.Duration
	Down      time.Duration // until what was ended begins again
	Wipe      bool          // the instance's state directory is lost
	Amid      bool          // it waits a moment for an open transaction of the instance, a crash of the broker for any
	Settle    bool          // the next step waits until the instances are ready
}

func (s Step) String() string {
	text := fmt.Sprintf("after %v: %s", s.Before.Round(time.Millisecond), s.Fault)
	if len(s.Instances) > 0 {
		text += fmt.Sprintf(" %v", s.Instances)
	}
	if s.Amid {
		text += " amid a transaction"
	}
	if s.Wipe {
		text += ", state lost"
	}
	return fmt.Sprintf("%s, back after %v", text, s.Down.Round(time.Millisecond))
}

// Plan is how many faults of each kind a run has.
type Plan struct {
	Instances      int
	Kills          int // SIGKILLs
	Rolling        int // restarts of all instances by SIGTERM, one after the other
	Zombies        int
	BrokerCrashes  int
	BrokerRestarts int
	Outages        int

	Amid bool // half of the kills are amid a transaction, and all freezes and crashes of the broker

	ZombieFor, OutageFor time.Duration
	Calm                 time.Duration // the longest time between two faults
}

// Schedule is the plan in an order, with times, that the seed decides.
func Schedule(seed uint64, p Plan) []Step {
	random := rand.New(rand.NewPCG(seed, 2))
	var steps []Step
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(random.Int64N(int64(max(most-least, 1))))
	}
	for left := p.Kills; left > 0; {
		s := Step{Fault: history.Kill, Down: between(0, p.Calm/2), Wipe: random.IntN(8) == 0, Settle: random.IntN(4) > 0}
		s.Amid = p.Amid && random.IntN(2) == 0
		s.Instances = random.Perm(p.Instances)[:1]
		if random.IntN(6) == 0 && left > 1 && p.Instances > 1 {
			s.Instances = random.Perm(p.Instances)[:2]
		}
		if random.IntN(12) == 0 {
			s.Down = 11 * time.Second // longer than the session time-out: the others take over
		}
		left -= len(s.Instances)
		steps = append(steps, s)
	}
	add := func(n int, fault string, down time.Duration, instances func() []int) {
		for range n {
			steps = append(steps, Step{Fault: fault, Instances: instances(), Down: down, Amid: p.Amid && (fault == history.Zombie || fault == history.BrokerCrash), Settle: true})
		}
	}
	none := func() []int { return nil }
	add(p.Rolling, history.Terminate, 0, func() []int { return random.Perm(p.Instances) })
	add(p.Zombies, history.Zombie, p.ZombieFor, func() []int { return random.Perm(p.Instances)[:1] })
	add(p.BrokerCrashes, history.BrokerCrash, between(0, 5*time.Second), none)
	add(p.BrokerRestarts, history.BrokerRestart, 0, none)
	add(p.Outages, history.Outage, p.OutageFor, none)
	random.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	for i := range steps {
		steps[i].Before = between(p.Calm/8, p.Calm)
	}
	return steps
}
