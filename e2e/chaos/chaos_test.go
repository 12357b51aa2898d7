package chaos_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kafkagrpc/e2e/chaos/check"
	"kafkagrpc/e2e/chaos/faults"
	"kafkagrpc/e2e/chaos/history"
	"kafkagrpc/e2e/realkafka"
	"kafkagrpc/internal/embedded"
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "kafka-grpc-chaos-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binaries.dir, binaries.built = dir, map[string]string{}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// full reports whether the long form is asked for, and skips where none is.
func full(t *testing.T) bool {
	t.Helper()
	switch form := os.Getenv("KAFKA_GRPC_CHAOS"); form {
	case "full":
		return true
	case "short":
		return false
	case "":
		t.Skip("kills processes for minutes: run it with KAFKA_GRPC_CHAOS=short or full")
	default:
		t.Fatalf("KAFKA_GRPC_CHAOS=%s: it is short or full", form)
	}
	return false
}

func kfake(t *testing.T) []string {
	t.Helper()
	kafka, err := embedded.StartKafka(embedded.KafkaOptions{})
	must(t, err)
	t.Cleanup(kafka.Close)
	return kafka.Brokers()
}

func TestOnEmbeddedKafka(t *testing.T) {
	s := scenario{
		plan: faults.Plan{Instances: 2, Kills: 6, Rolling: 1, Calm: 2 * time.Second},
		rate: 200, slow: 0.02, slowFor: time.Second, successes: 100, calm: 2 * time.Second,
	}
	if full(t) {
		s = scenario{
			plan: faults.Plan{Instances: 3, Kills: 100, Rolling: 6, Calm: 4 * time.Second},
			rate: 250, slow: 0.01, slowFor: 3 * time.Second, successes: 500, calm: 5 * time.Second,
		}
	}
	verify(t, kfake(t), nil, s)
}

func TestOnKafka(t *testing.T) {
	s := scenario{
		plan: faults.Plan{Instances: 2, Kills: 3, Rolling: 1, BrokerCrashes: 1, Outages: 1, OutageFor: 5 * time.Second, Calm: 2 * time.Second},
		rate: 150, slow: 0.02, slowFor: time.Second, successes: 100, calm: 2 * time.Second,
	}
	if full(t) {
		s = scenario{
			plan: faults.Plan{
				Instances: 3, Kills: 25, Rolling: 3, BrokerCrashes: 3, BrokerRestarts: 1, Outages: 1, Zombies: 1,
				OutageFor: time.Minute, ZombieFor: 15 * time.Second, Calm: 4 * time.Second,
			},
			rate: 200, slow: 0.01, slowFor: 3 * time.Second, successes: 500, calm: 5 * time.Second,
		}
	}
	kafka := realkafka.Start(t, realkafka.Options{})
	verify(t, kafka.Brokers(), kafka, s)
}

// Calls that are made one after another stay so. The short form has one order on each Kafka.
func TestOrderOnEmbeddedKafka(t *testing.T) {
	orders := []scenario{byKey}
	if full(t) {
		orders = append(orders, byPartition)
	}
	for _, s := range orders {
		t.Run(s.order, func(t *testing.T) {
			s.plan = faults.Plan{Instances: 2, Kills: 3, Rolling: 1, Outages: 1, OutageFor: 2 * time.Second, Calm: time.Second}
			s.rate, s.successes, s.calm = 200, 50, time.Second
			if full(t) {
				s.plan = faults.Plan{
					Instances: 3, Kills: 100, Rolling: 3, Outages: 1, Zombies: 1,
					OutageFor: 15 * time.Second, ZombieFor: 15 * time.Second, Calm: 2 * time.Second,
				}
				s.successes, s.calm = 500, 5*time.Second
			}
			verify(t, kfake(t), nil, s)
		})
	}
}

func TestOrderOnKafka(t *testing.T) {
	orders := []scenario{byPartition}
	if full(t) {
		orders = append(orders, byKey)
	}
	for _, s := range orders {
		t.Run(s.order, func(t *testing.T) {
			s.plan = faults.Plan{Instances: 2, Kills: 2, BrokerCrashes: 1, Calm: time.Second}
			s.rate, s.successes, s.calm = 150, 50, time.Second
			if full(t) {
				s.plan = faults.Plan{
					Instances: 3, Kills: 25, Rolling: 2, BrokerCrashes: 2, BrokerRestarts: 1, Outages: 1, Zombies: 1,
					OutageFor: 30 * time.Second, ZombieFor: 15 * time.Second, Calm: 2 * time.Second,
				}
				s.successes, s.calm = 500, 5*time.Second
			}
			kafka := realkafka.Start(t, realkafka.Options{})
			verify(t, kafka.Brokers(), kafka, s)
		})
	}
}

// With processing.guarantee: exactly-once. Half of the kills cut a transaction, and all freezes do. A freeze is longer than the time-out of a transaction, as are some of the
// times for which an instance is away after a kill.
func TestExactlyOnceOnEmbeddedKafka(t *testing.T) {
	s := scenario{
		once: true,
		plan: faults.Plan{Instances: 2, Amid: true, Kills: 6, Rolling: 1, Calm: 2 * time.Second},
		rate: 200, slow: 0.02, slowFor: time.Second, successes: 100, calm: time.Second,
	}
	if full(t) {
		s.plan = faults.Plan{Instances: 3, Amid: true, Kills: 100, Rolling: 6, Zombies: 2, Outages: 1, ZombieFor: 15 * time.Second, OutageFor: 15 * time.Second, Calm: 4 * time.Second}
		s.rate, s.slow, s.slowFor, s.successes, s.calm = 250, 0.01, 3*time.Second, 500, 5*time.Second
	}
	verify(t, kfake(t), nil, s)
}

func TestExactlyOnceOnKafka(t *testing.T) {
	s := scenario{
		once: true,
		plan: faults.Plan{
			Instances: 2, Amid: true, Kills: 3, Rolling: 1, BrokerCrashes: 1, Outages: 1, Zombies: 1,
			OutageFor: 5 * time.Second, ZombieFor: 12 * time.Second, Calm: time.Second,
		},
		rate: 150, slow: 0.02, slowFor: time.Second, successes: 100, calm: time.Second,
	}
	if full(t) {
		s.plan = faults.Plan{
			Instances: 3, Amid: true, Kills: 25, Rolling: 3, BrokerCrashes: 3, BrokerRestarts: 1, Outages: 1, Zombies: 2,
			OutageFor: time.Minute, ZombieFor: 15 * time.Second, Calm: 4 * time.Second,
		}
		s.rate, s.slow, s.slowFor, s.successes, s.calm = 200, 0.01, 3*time.Second, 500, 5*time.Second
	}
	kafka := realkafka.Start(t, realkafka.Options{})
	verify(t, kafka.Brokers(), kafka, s)
}

// Slow calls hold those behind them, and must leave a partition time for all.
var (
	byKey       = scenario{order: "key", slow: 0.02, slowFor: time.Second}
	byPartition = scenario{order: "partition", slow: 0.01, slowFor: 500 * time.Millisecond}
)

// verify runs a scenario that must keep every invariant.
func verify(t *testing.T, brokers []string, broker *realkafka.Kafka, s scenario) {
	t.Helper()
	if given := os.Getenv("CHAOS_PLAN"); given != "" {
		must(t, replan(&s.plan, given))
	}
	events := run(t, brokers, broker, s)
	p := s.plan
	violations := check.All(events, check.Options{ExactlyOnce: s.once, Successes: s.successes, Faults: map[string]int{
		history.Kill: p.Kills, history.Terminate: p.Rolling * p.Instances, history.Zombie: p.Zombies,
		history.BrokerCrash: p.BrokerCrashes, history.BrokerRestart: p.BrokerRestarts, history.Outage: p.Outages,
	}})
	report(t, events, violations)
}

// report fails the test for violations.
func report(t *testing.T, events []history.Event, violations []check.Violation) {
	t.Helper()
	for _, line := range check.Explain(events, violations) {
		t.Error(line)
	}
}

// A history that was kept is judged again, for work on the checkers.
func TestReplay(t *testing.T) {
	path := os.Getenv("CHAOS_HISTORY")
	if path == "" {
		t.Skip("judges a history that a failed run has kept: run it with CHAOS_HISTORY=<path of history.jsonl>")
	}
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	events, err := history.Read(f)
	must(t, err)
	figures := check.Count(events)
	t.Logf("%v", figures)
	report(t, events, check.All(events, check.Options{ExactlyOnce: figures.Transactions > 0}))
}

// replan reads fault=number,...
func replan(p *faults.Plan, text string) error {
	counts := map[string]*int{
		history.Kill: &p.Kills, history.Terminate: &p.Rolling, history.Zombie: &p.Zombies,
		history.BrokerCrash: &p.BrokerCrashes, history.BrokerRestart: &p.BrokerRestarts, history.Outage: &p.Outages,
	}
	for _, n := range counts {
		*n = 0
	}
	p.ZombieFor, p.OutageFor = 15*time.Second, time.Minute
	for _, part := range strings.Split(text, ",") {
		fault, number, _ := strings.Cut(part, "=")
		n, err := strconv.Atoi(number)
		if counts[fault] == nil || err != nil {
			return fmt.Errorf("CHAOS_PLAN: %q is not <fault>=<number>, such as kill=3", part)
		}
		*counts[fault] = n
	}
	return nil
}

// Each planted defect is found by the checker that is there for it.
func TestPlantedDefectsAreFound(t *testing.T) {
	full(t)
	for _, c := range []struct {
		tag   string
		plan  faults.Plan
		order string
		once  bool
		want  []string // checkers that must complain; others may
	}{
		{"defect_commit_early", faults.Plan{Kills: 3}, "", false, []string{check.GapFree, check.Answered}},
		{"defect_reply_first", faults.Plan{Kills: 1}, "", false, []string{check.DurableFirst}},
		{"defect_forget_row", faults.Plan{Kills: 1}, "", false, []string{check.OneAnswer}},
		{"defect_ignore_row", faults.Plan{Kills: 1}, "", false, []string{check.Once, check.OneAnswer, check.Orderly}},
		{"defect_no_drain", faults.Plan{Rolling: 1}, "", false, []string{check.Orderly}},
		{"defect_torn_reply", faults.Plan{Kills: 1}, "", false, []string{check.Whole}},
		{"defect_no_line", faults.Plan{Kills: 1}, "key", false, []string{check.InOrder}},
		{"defect_outside", faults.Plan{Kills: 3}, "", true, []string{check.GapFree, check.Answered}},
		{"defect_apart", faults.Plan{Kills: 1}, "", true, []string{check.Atomic}},
	} {
		t.Run(c.tag, func(t *testing.T) {
			c.plan.Instances, c.plan.Calm = 2, time.Second
			events := run(t, kfake(t), nil, scenario{
				tag: c.tag, plan: c.plan, order: c.order, once: c.once, rate: 150, slow: 0.1, slowFor: time.Second, calm: time.Second, patience: 8 * time.Second,
			})
			count := map[string]int{}
			for _, v := range check.All(events, check.Options{ExactlyOnce: c.once}) {
				count[v.Checker]++
			}
			t.Logf("violations: %v", count)
			for _, checker := range c.want {
				if count[checker] == 0 {
					t.Errorf("the checker %s did not find %s", checker, c.tag)
				}
			}
			if n := count[check.Progress]; n > 0 {
				t.Errorf("a run without demands fails %d of them", n)
			}
			if slices.Contains(c.want, check.Answered) {
				return
			}
			if n := count[check.Answered]; n > 0 {
				t.Errorf("%d requests were not answered, which this defect does not explain", n)
			}
		})
	}
}
