package faults_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kafkagrpc/e2e/chaos/faults"
	"kafkagrpc/e2e/chaos/history"
)

func TestScheduleKeepsThePlan(t *testing.T) {
	t.Parallel()
	plan := faults.Plan{
		Instances: 3, Kills: 100, Rolling: 5, Zombies: 1, BrokerCrashes: 3, BrokerRestarts: 1, Outages: 1,
		ZombieFor: 15 * time.Second, OutageFor: time.Minute, Calm: 2 * time.Second,
	}
	steps := faults.Schedule(7, plan)
	count := map[string]int{}
	for _, s := range steps {
		if s.Fault == history.Kill {
			count[s.Fault] += len(s.Instances)
			continue
		}
		count[s.Fault]++
	}
	want := map[string]int{history.Kill: 100, history.Terminate: 5, history.Zombie: 1, history.BrokerCrash: 3, history.BrokerRestart: 1, history.Outage: 1}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(steps, faults.Schedule(7, plan)); diff != "" {
		t.Errorf("the same seed makes another schedule: %s", diff)
	}
	if cmp.Equal(steps, faults.Schedule(8, plan)) {
		t.Error("another seed makes the same schedule")
	}
}
