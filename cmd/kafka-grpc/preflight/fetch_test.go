package preflight_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/cmd/kafka-grpc/preflight"
	"kafkagrpc/internal/embedded"
	"kafkagrpc/topology"
)

const fetchFile = `name: x
bindings:
  tcp0: {type: tcp, kind: server, options: {port: 7151}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0: {type: grpc, kind: server, exit: fetch0}
  fetch0:
    type: grpc-kafka
    kind: proxy
    exit: cache0
    routes:
      - {when: [{method: a.A/A}], with: {capability: fetch, topic: messages}}
      - {when: [{method: a.A/B}], with: {capability: fetch, topic: both}}
      - {with: {capability: produce, topic: both, reply-to: replies}}
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0: {type: kafka, kind: client, options: {servers: ["%s"]}, exit: tcp1}
  tcp1: {type: tcp, kind: client}
`

// A topic that calls read may be compacted, unless it is written to as well. That it cannot be read shows before anybody calls.
func TestTopicsThatCallsRead(t *testing.T) {
	t.Parallel()
	compacted := func(topics ...string) func(*kfake.Cluster) error {
		return func(c *kfake.Cluster) error {
			for _, topic := range topics {
				if err := c.CreateTopic(topic, 2, map[string]string{"cleanup.policy": "compact"}); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for name, tt := range map[string]struct {
		topics []string
		change func(*kfake.Cluster) error
		failed []string // of the findings
	}{
		"all there": {topics: []string{"messages", "both", "replies"}},
		"missing":   {topics: []string{"both", "replies"}, failed: []string{`topic "messages" does not exist`}},
		"compacted": {topics: []string{"replies"}, change: compacted("messages", "both"), failed: []string{`topic "both" has cleanup.policy=compact`}},
		"not allowed": {topics: []string{"messages", "both", "replies"}, change: func(c *kfake.Cluster) error {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "messages", Err: kerr.TopicAuthorizationFailed, Count: -1})
			return nil
		}, failed: []string{"calls cannot read it: "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			there := map[string]int32{}
			for _, topic := range tt.topics {
				there[topic] = 2
			}
			k, err := embedded.StartKafka(embedded.KafkaOptions{Topics: there})
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			if tt.change != nil {
				if err := tt.change(k.Cluster()); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(t.TempDir(), "zilla.yaml")
			if err := os.WriteFile(path, fmt.Appendf(nil, fetchFile, k.Brokers()[0]), 0o600); err != nil {
				t.Fatal(err)
			}
			top, err := topology.Load(path, topology.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var failed []string
			for _, f := range preflight.Run(t.Context(), top) {
				if f.Result == preflight.Failed {
					failed = append(failed, f.Detail)
				}
			}
			if len(failed) != len(tt.failed) || len(failed) > 0 && !strings.Contains(failed[0], tt.failed[0]) {
				t.Errorf("it fails with %q, not %q", failed, tt.failed)
			}
		})
	}
}
