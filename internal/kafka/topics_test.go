package kafka_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/kafka"
)

func openTopics(t *testing.T, c kafka.Cluster) *kafka.Topics {
	t.Helper()
	topics, err := kafka.OpenTopics(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := topics.Close(); err != nil {
			t.Error(err)
		}
	})
	return topics
}

// group needs all that a group can.
func group(create int, inputs ...string) kafka.Needs {
	return kafka.Needs{Inputs: inputs, Outputs: []string{"replies"}, Table: "g-table", Loop: "g-loop", DeadLetters: "g-dead-letters", Create: create}
}

// shape is what a test looks at in a topic.
type shape struct {
	Partitions        int
	Policy, Retention string
	MaxBytes          string
}

func shapes(t *testing.T, k *kfake.Cluster, names ...string) map[string]shape {
	t.Helper()
	found := map[string]shape{}
	for _, name := range names {
		if info := k.TopicInfo(name); info != nil {
			s := shape{Partitions: len(k.PartitionInfos(name))}
			if v := info.Configs["cleanup.policy"]; v != nil {
				s.Policy = *v
			}
			if v := info.Configs["retention.ms"]; v != nil {
				s.Retention = *v
			}
			if v := info.Configs["max.message.bytes"]; v != nil {
				s.MaxBytes = *v
			}
			found[name] = s
		}
	}
	return found
}

func TestEnsureCreatesTheGroupsOwnTopics(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"requests": 3, "more": 3, "replies": 5})
	topics := openTopics(t, c)
	for range 2 { // the second finds them
		n, err := topics.Ensure(within(t), group(0, "requests", "more"))
		if err != nil || n != 3 {
			t.Fatalf("%d partitions, %v; want 3", n, err)
		}
	}
	want := map[string]shape{
		"g-table":        {3, "compact", "", ""},
		"g-loop":         {3, "delete", "604800000", ""},
		"g-dead-letters": {3, "delete", "2592000000", ""},
	}
	if diff := cmp.Diff(want, shapes(t, k.Cluster(), slices.Collect(maps.Keys(want))...)); diff != "" {
		t.Error(diff)
	}
}

// What the group's own topics keep is as large as what is on the others, and some more.
func TestEnsureCreatesTheGroupsOwnTopicsAsLargeAsTheOthers(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"small": 1})
	limited(t, k, "requests", 3<<20)
	limited(t, k, "replies", 10<<20)
	if _, err := openTopics(t, c).Ensure(within(t), group(0, "small", "requests")); err != nil {
		t.Fatal(err)
	}
	want := map[string]shape{
		"g-table":        {1, "compact", "", fmt.Sprint(10<<20 + 64<<10)},
		"g-loop":         {1, "delete", "604800000", fmt.Sprint(3<<20 + 64<<10)},
		"g-dead-letters": {1, "delete", "2592000000", fmt.Sprint(3<<20 + 64<<10)},
	}
	if diff := cmp.Diff(want, shapes(t, k.Cluster(), slices.Collect(maps.Keys(want))...)); diff != "" {
		t.Error(diff)
	}
}

// The loop topic keeps requests for as long as their topics do, within bounds.
func TestLoopTopicKeepsWhatRequestTopicsKeep(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		requests, more, want string
		retention            time.Duration // of requests
	}{
		"the longest":      {"86400000", "172800000", "172800000", 24 * time.Hour},
		"not less than":    {"1000", "2000", "86400000", time.Second},
		"not more than":    {"6048000000", "1000", "604800000", 70 * 24 * time.Hour},
		"kept for good":    {"-1", "1000", "604800000", kafka.Endless},
		"nearly for good":  {"9223372036854775807", "1000", "604800000", kafka.Endless.Truncate(time.Millisecond)},
		"kept for nothing": {"0", "0", "604800000", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, c := start(t, map[string]int32{"replies": 1})
			for topic, ms := range map[string]string{"requests": tc.requests, "more": tc.more} {
				if err := k.Cluster().CreateTopic(topic, 1, map[string]string{"retention.ms": ms}); err != nil {
					t.Fatal(err)
				}
			}
			topics := openTopics(t, c)
			if _, err := topics.Ensure(within(t), group(0, "requests", "more")); err != nil {
				t.Fatal(err)
			}
			if got := shapes(t, k.Cluster(), "g-loop")["g-loop"].Retention; got != tc.want {
				t.Errorf("the loop topic keeps %s ms, want %s", got, tc.want)
			}
			if got, err := topics.Retention("requests"); err != nil || got != tc.retention {
				t.Errorf("the request topic keeps %v, %v; want %v", got, err, tc.retention)
			}
		})
	}
}

func TestEnsureCreatesInputsAndOutputsWhenTold(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		exist map[string]int32
		want  map[string]int // partitions
	}{
		"nothing exists":            {nil, map[string]int{"requests": 4, "more": 4, "replies": 4, "g-table": 4}},
		"one input exists":          {map[string]int32{"more": 2}, map[string]int{"requests": 2, "more": 2, "replies": 4, "g-table": 2}},
		"an output exists":          {map[string]int32{"replies": 7}, map[string]int{"requests": 4, "more": 4, "replies": 7, "g-table": 4}},
		"everything exists already": {map[string]int32{"requests": 1, "more": 1, "replies": 1}, map[string]int{"requests": 1, "more": 1, "replies": 1, "g-table": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, c := start(t, tc.exist)
			n, err := openTopics(t, c).Ensure(within(t), group(4, "requests", "more"))
			if err != nil || n != tc.want["requests"] {
				t.Fatalf("%d partitions, %v; want %d", n, err, tc.want["requests"])
			}
			got := map[string]int{}
			for name, s := range shapes(t, k.Cluster(), slices.Collect(maps.Keys(tc.want))...) {
				got[name] = s.Partitions
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The two sides of the bridge may share a topic, and a caller of the bridge has no group.
func TestEnsureOutputsOnly(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"t": 3})
	topics := openTopics(t, c)
	if n, err := topics.Ensure(within(t), kafka.Needs{Outputs: []string{"t", "new"}, Create: 2}); n != 0 || err != nil {
		t.Errorf("%d, %v; want 0, nil", n, err)
	}
	if n, err := topics.Ensure(within(t), kafka.Needs{Inputs: []string{"both"}, Outputs: []string{"both"}, Create: 2}); n != 2 || err != nil {
		t.Errorf("%d, %v; want 2, nil", n, err)
	}
	if n, err := topics.Ensure(within(t), kafka.Needs{}); n != 0 || err != nil {
		t.Errorf("no needs: %d, %v; want 0, nil", n, err)
	}
}

func TestEnsureRefuses(t *testing.T) {
	t.Parallel()
	compact := map[string]string{"cleanup.policy": "compact"}
	type existing struct {
		partitions int32
		config     map[string]string
	}
	for name, tc := range map[string]struct {
		exist map[string]existing
		needs kafka.Needs
		want  [][]string // per problem, in order: words that its line has
	}{
		"all that is missing, at once": {
			map[string]existing{"more": {1, nil}}, group(0, "requests", "more", "third"),
			[][]string{{`"requests"`, "does not exist", "--create-topics"}, {`"third"`, "does not exist"}, {`"replies"`, "does not exist"}},
		},
		"compacted requests and replies": {
			map[string]existing{"requests": {1, compact}, "replies": {1, map[string]string{"cleanup.policy": "compact,delete"}}}, group(2, "requests"),
			[][]string{{`"requests"`, "cleanup.policy=compact:"}, {`"replies"`, "cleanup.policy=compact,delete"}},
		},
		"inputs with different counts": {
			map[string]existing{"requests": {3, nil}, "more": {2, nil}, "replies": {1, nil}}, group(2, "requests", "more"),
			[][]string{{`"requests" has 3`, `"more" has 2`, "add partitions"}},
		},
		"fewer requests than the table": {
			map[string]existing{"requests": {3, nil}, "replies": {1, nil}, "g-table": {4, compact}}, group(0, "requests"),
			[][]string{{`"requests"`, "3 partitions", "keys in 4", "add partitions"}},
		},
		"a table that is not compacted": {
			map[string]existing{"requests": {3, nil}, "replies": {1, nil}, "g-table": {3, nil}}, group(0, "requests"),
			[][]string{{`"g-table"`, "cleanup.policy=delete", "set it to compact"}},
		},
		"a compacted loop": {
			map[string]existing{"requests": {3, nil}, "replies": {1, nil}, "g-loop": {4, compact}}, group(0, "requests"),
			[][]string{{`"g-loop"`, "cleanup.policy=compact"}},
		},
		"compacted dead letters": {
			map[string]existing{"requests": {3, nil}, "replies": {1, nil}, "g-dead-letters": {1, compact}}, group(0, "requests"),
			[][]string{{`"g-dead-letters"`, "cleanup.policy=compact"}},
		},
		"everything wrong, at once": {
			map[string]existing{"requests": {3, compact}, "g-table": {3, nil}}, group(0, "requests"),
			[][]string{{`"requests"`, "compact"}, {`"replies"`, "does not exist"}, {`"g-table"`, "delete"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, c := start(t, nil)
			for topic, e := range tc.exist {
				if err := k.Cluster().CreateTopic(topic, e.partitions, e.config); err != nil {
					t.Fatal(err)
				}
			}
			_, err := openTopics(t, c).Ensure(within(t), tc.needs)
			if err == nil {
				t.Fatal("no error")
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tc.want) {
				t.Fatalf("%d problems, want %d:\n%v", len(lines), len(tc.want), err)
			}
			for i, words := range tc.want {
				for _, word := range words {
					if !strings.Contains(lines[i], word) {
						t.Errorf("problem %d does not say %s: %s", i+1, word, lines[i])
					}
				}
			}
			for _, name := range []string{"g-table", "g-loop", "g-dead-letters", "requests", "replies"} {
				if _, existed := tc.exist[name]; !existed && k.Cluster().TopicInfo(name) != nil {
					t.Errorf("%s was created although there are problems", name)
				}
			}
		})
	}
}

func TestEnsureReportsWhatKafkaRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault kfake.Fault
		want  string
	}{
		"metadata":      {kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "requests", Err: kerr.TopicAuthorizationFailed, Count: -1}, `"requests"`},
		"configuration": {kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Resource: "requests", Err: kerr.TopicAuthorizationFailed, Count: -1}, "DESCRIBE_CONFIGS"},
		"creation":      {kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: "g-loop", Err: kerr.PolicyViolation, Count: -1}, `creating topic "g-loop" with 3 partitions`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, c := start(t, map[string]int32{"requests": 3, "replies": 1})
			topics := openTopics(t, c)
			refused := k.Cluster().Fault(tc.fault)
			_, err := topics.Ensure(within(t), group(0, "requests"))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %s", err, tc.want)
			}
			if refused.Hits() == 0 {
				t.Error("nothing was refused")
			}
		})
	}
}

func TestEnsureBySeveralInstancesAtOnce(t *testing.T) {
	t.Parallel()
	k, c := start(t, nil)
	var all sync.WaitGroup
	for range 8 {
		topics := openTopics(t, c)
		all.Go(func() {
			if n, err := topics.Ensure(t.Context(), group(3, "requests", "more")); err != nil || n != 3 {
				t.Errorf("%d partitions, %v; want 3", n, err)
			}
		})
	}
	all.Wait()
	if got := len(shapes(t, k.Cluster(), "requests", "more", "replies", "g-table", "g-loop", "g-dead-letters")); got != 6 {
		t.Errorf("%d topics, want 6", got)
	}
}

// One looks, another creates everything, and then the first begins to create.
func TestEnsureAfterAnotherInstanceWasFaster(t *testing.T) {
	t.Parallel()
	k, c := start(t, nil)
	slow, fast := openTopics(t, c), openTopics(t, c)
	reached, done := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	k.Cluster().ControlKey(int16(kmsg.CreateTopics), func(kmsg.Request) (kmsg.Response, error, bool) {
		if first.CompareAndSwap(false, true) {
			close(reached)
			k.Cluster().SleepControl(func() { <-done })
		}
		return nil, nil, false
	})
	type answer struct {
		partitions int
		err        error
	}
	answered := make(chan answer, 1)
	go func() {
		n, err := slow.Ensure(t.Context(), group(3, "requests", "more"))
		answered <- answer{n, err}
	}()
	<-reached
	if n, err := fast.Ensure(within(t), group(2, "requests", "more")); err != nil || n != 2 {
		t.Errorf("the fast one: %d partitions, %v; want 2", n, err)
	}
	close(done)
	if a := <-answered; a.err != nil || a.partitions != 2 {
		t.Errorf("the slow one: %d partitions, %v; want the 2 that there are", a.partitions, a.err)
	}
}

func TestDeleteRetention(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"default": 1})
	for topic, ms := range map[string]string{"short": "60000", "endless": "9223372036854775807"} {
		if err := k.Cluster().CreateTopic(topic, 1, map[string]string{"delete.retention.ms": ms}); err != nil {
			t.Fatal(err)
		}
	}
	topics := openTopics(t, c)
	for topic, want := range map[string]time.Duration{
		"default": 24 * time.Hour, "short": time.Minute, "endless": time.Duration(math.MaxInt64).Truncate(time.Millisecond),
	} {
		if got, err := topics.DeleteRetention(topic); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", topic, got, err, want)
		}
	}
	if _, err := topics.DeleteRetention("missing"); err == nil || !strings.Contains(err.Error(), `"missing"`) {
		t.Errorf("missing: %v, want an error that names it", err)
	}
}

func TestOpenTopicsNamesBrokersItCannotReach(t *testing.T) {
	t.Parallel()
	a, b := unusedAddress(t), unusedAddress(t)
	_, err := kafka.OpenTopics(kafka.Cluster{Brokers: []string{a, b}})
	if err == nil || !strings.Contains(err.Error(), a) || !strings.Contains(err.Error(), b) {
		t.Errorf("error %v, want one that names %s and %s", err, a, b)
	}
}
