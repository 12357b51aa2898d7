package topology_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kafkagrpc/topology"
)

// guardOf is a configuration whose kafka client has the credentials of a guard.
const guardOf = `name: x
guards:
  g: {type: inline, options: {identity: "${{env.USER}}", credentials: "{identity}"}}
bindings:
  tcp0: {type: tcp, kind: server, options: {port: 7151}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0: {type: grpc, kind: server, exit: produce0}
  produce0: {type: grpc-kafka, kind: proxy, exit: cache0, routes: [{with: {capability: produce, topic: a, reply-to: b}}]}
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0:
    type: kafka
    kind: client
    options: {servers: ["kafka:9092"], authorization: {g: {credentials: {mechanism: %s, username: %q, password: %q}}}}
    exit: tcp1
  tcp1: {type: tcp, kind: client}
`

// What a guard knows is put in once: a value that looks like a placeholder is none.
func TestCredentialsOfAGuard(t *testing.T) {
	t.Parallel()
	env := lookup(map[string]string{"USER": "{credentials}", "ODD": "{identity}{x}"})
	for name, tt := range map[string]struct{ username, password, wantUser, wantPassword string }{
		"both":               {"{identity}", "{credentials}", "{credentials}", "{identity}"},
		"with text":          {"a-{identity}-b", "{credentials}{credentials}", "a-{credentials}-b", "{identity}{identity}"},
		"text alone":         {"ann", "word", "ann", "word"},
		"braces of no name":  {"{}", "{A}{ identity }", "{}", "{A}{ identity }"},
		"of the environment": {"${{env.ODD}}", "${{ env.ODD }}", "{identity}{x}", "{identity}{x}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := topology.Load(write(t, "zilla.yaml", fmt.Sprintf(guardOf, "plain", tt.username, tt.password)), topology.Options{LookupEnv: env})
			if err != nil {
				t.Fatal(err)
			}
			want := &topology.SASL{Guard: "g", Mechanism: "plain", Username: tt.wantUser, Password: topology.Secret(tt.wantPassword)}
			if diff := cmp.Diff(want, got.Clusters()[0].SASL); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(got.Warnings) == 0 || !strings.Contains(fmt.Sprint(got.Warnings), "the password is sent in the clear") {
				t.Errorf("no warning of a password in the clear: %v", got.Warnings)
			}
		})
	}
}
