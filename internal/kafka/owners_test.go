package kafka_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/kafka"
)

// idle is a member that does nothing with what it is assigned.
type idle struct{}

func (idle) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (idle) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (idle) ConsumeClaim(s sarama.ConsumerGroupSession, _ sarama.ConsumerGroupClaim) error {
	<-s.Context().Done()
	return nil
}

// join joins a group until leave, or the end of the test. The group is told of the member what it tells.
func join(t *testing.T, c kafka.Cluster, group, instance, tells string, topics ...string) (leave func()) {
	t.Helper()
	member, err := kafka.NewGroup(c, kafka.Membership{Group: group, Instance: instance, Drain: time.Second, Tells: tells})
	if err != nil {
		t.Fatal(err)
	}
	ctx, left := within(t), make(chan struct{})
	go func() {
		defer close(left)
		for member.Consume(ctx, topics, idle{}) == nil && ctx.Err() == nil {
		}
	}()
	var gone bool
	leave = func() {
		if gone {
			return
		}
		gone = true
		if err := member.Close(); err != nil {
			t.Error(err)
		}
		<-left
	}
	t.Cleanup(leave)
	return leave
}

func TestOwners(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 4, "other": 2, "unread": 1})
	topics, err := kafka.OpenTopics(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := topics.Close(); err != nil {
			t.Error(err)
		}
	})
	ask := func(topic string) map[int32]string {
		t.Helper()
		owners, err := topics.Owners("g", topic)
		if err != nil {
			t.Fatal(err)
		}
		tells := map[int32]string{}
		for partition, o := range owners {
			if name := map[string]string{"http://one": "one", "http://two": "two", "": "two"}[o.Tells]; o.ID != name || !strings.HasPrefix(o.Host, "127.0.0.1") {
				t.Errorf("the one that tells %q is %q on host %q", o.Tells, o.ID, o.Host)
			}
			tells[partition] = o.Tells
		}
		return tells
	}
	eventually := func(what string, is func(map[int32]string) bool) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(patience); ; <-tick.C {
			owners := ask("t")
			if is(owners) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: the owners are %v", what, owners)
			}
		}
	}
	count := func(owners map[int32]string) map[string]int {
		n := map[string]int{}
		for _, at := range owners {
			n[at]++
		}
		return n
	}

	if got := ask("t"); len(got) != 0 {
		t.Errorf("of a group that there is not: %v", got)
	}
	join(t, c, "g", "one", "http://one", "t", "other")
	eventually("a member alone owns all", func(o map[int32]string) bool {
		return maps.Equal(o, map[int32]string{0: "http://one", 1: "http://one", 2: "http://one", 3: "http://one"})
	})
	if got := ask("other"); !maps.Equal(got, map[int32]string{0: "http://one", 1: "http://one"}) {
		t.Errorf("of another topic: %v", got)
	}
	if got := ask("unread"); len(got) != 0 {
		t.Errorf("of a topic that the group does not read: %v", got)
	}
	leave := join(t, c, "g", "two", "http://two", "t", "other")
	eventually("two members have a half each", func(o map[int32]string) bool {
		return maps.Equal(count(o), map[string]int{"http://one": 2, "http://two": 2})
	})
	leave()
	join(t, c, "g", "two", "", "t", "other") // the same member, which tells nothing now
	eventually("a member that tells nothing is named, too", func(o map[int32]string) bool {
		return maps.Equal(count(o), map[string]int{"http://one": 2, "": 2})
	})

	k.Cluster().ControlKey(int16(kmsg.DescribeGroups), func(r kmsg.Request) (kmsg.Response, error, bool) {
		response := r.ResponseKind().(*kmsg.DescribeGroupsResponse)
		group := kmsg.NewDescribeGroupsResponseGroup()
		group.Group, group.ErrorCode = "g", kerr.GroupAuthorizationFailed.Code
		response.Groups = append(response.Groups, group)
		return response, nil, true
	})
	_, err = topics.Owners("g", "t")
	if err == nil {
		t.Fatal("a refusal is no answer")
	}
	for _, part := range []string{c.Brokers[0], `topic "t"`, "group g", kerr.GroupAuthorizationFailed.Error()} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
}
