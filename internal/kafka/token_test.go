package kafka_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// bearers are a Kafka that takes tokens which it likes.
func bearers(t *testing.T, likes func(token string) bool) []string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.BrokerConfigs(map[string]string{"default.replication.factor": "1"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.ControlKey(kmsg.SASLHandshake.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		answer := r.ResponseKind().(*kmsg.SASLHandshakeResponse)
		if r.(*kmsg.SASLHandshakeRequest).Mechanism != "OAUTHBEARER" {
			answer.ErrorCode = 33 // unsupported
		}
		return answer, nil, true
	})
	c.ControlKey(kmsg.SASLAuthenticate.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		answer := r.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		shown := string(r.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes)
		_, token, _ := strings.Cut(shown, "auth=Bearer ")
		if token, _, _ = strings.Cut(token, "\x01"); !likes(token) {
			answer.ErrorCode = 58 // not taken
		}
		return answer, nil, true
	})
	return c.ListenAddrs()
}

func only(token string) func(string) bool { return func(t string) bool { return t == token } }

// issuer gives tokens to one client.
func issuer(t *testing.T, answer func(http.ResponseWriter, *http.Request)) (url string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/token?realm=kafka", asked
}

func gives(token string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		user, secret, _ := r.BasicAuth()
		if err := r.ParseForm(); err != nil || user != "me" || secret != "secret-word" || r.Form.Get("grant_type") != "client_credentials" ||
			r.Form.Get("scope") != "a b" || r.Form.Get("audience") != "kafka" || r.Form.Get("realm") != "kafka" {
			http.Error(w, `{"error": "invalid_client"}`, http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "bearer", "expires_in": 300})
	}
}

// clusterOf is how the brokers are reached with what a configuration says of a client.
func clusterOf(brokers []string, s topology.SASL) kafka.Cluster {
	return kafka.ClusterOf(&topology.Cluster{Brokers: brokers, SASL: &s}, "test")
}

// A token opens the way for all that connects, wherever it comes from.
func TestTokens(t *testing.T) {
	url, asked := issuer(t, gives("dynamic"))
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-word")
	for name, tt := range map[string]struct {
		sasl  topology.SASL
		likes func(string) bool
	}{
		"static":   {topology.SASL{Mechanism: "oauthbearer", Token: "static"}, only("static")},
		"endpoint": {topology.SASL{Mechanism: "oauthbearer", Endpoint: topology.TokenEndpoint{URL: url, ClientID: "me", ClientSecret: "secret-word", Scope: "a b", Audience: "kafka"}}, only("dynamic")},
		"AWS":      {topology.SASL{Mechanism: "aws-msk-iam", Region: "eu-central-1"}, func(token string) bool { return len(token) > 100 && !strings.Contains(token, "secret-word") }},
	} {
		t.Run(name, func(t *testing.T) {
			c := clusterOf(bearers(t, tt.likes), tt.sasl)
			topics, err := kafka.OpenTopics(c)
			if err != nil {
				t.Fatal(err)
			}
			if err := topics.Close(); err != nil {
				t.Error(err)
			}
			in := newInbox()
			newTail(t, c, in.deliver, "t")
			produce(t, newProducer(t, c), wire.Record{Topic: "t", Key: []byte("k"), Value: []byte("v")})
			in.wait(t, "v")
			if got := readAll(t, c, "t", 0); len(got) != 1 || string(got[0].Value) != "v" {
				t.Errorf("read %v", got)
			}
			if err := c.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the endpoint was asked %d times", n)
	}
}

// What is wrong is told in the words of the configuration, without what is secret; an endpoint is not asked more often than is good for it.
func TestTokensAreRefused(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(nil)
	gone.Close()
	fails := func(status int, body string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	endpoint := func(answer func(http.ResponseWriter, *http.Request)) (topology.SASL, *atomic.Int32) {
		url, asked := gone.URL, new(atomic.Int32)
		if answer != nil {
			url, asked = issuer(t, answer)
		}
		return topology.SASL{Mechanism: "oauthbearer", Endpoint: topology.TokenEndpoint{URL: url, ClientID: "me", ClientSecret: "wrong-word", Scope: "a b", Audience: "kafka"}}, asked
	}
	for name, tt := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		want   []string
	}{
		"wrong secret": {gives("dynamic"), []string{"check `client-id`, `client-secret` and `scope`", "it answers 401 Unauthorized"}},
		"wrong scope":  {fails(400, `{"error": "invalid_scope", "error_description": "wrong-word"}`), []string{"it answers 400 Bad Request, invalid_scope"}},
		"down":         {nil, []string{"the client has no token to show", gone.URL, "connection refused"}},
		"out of order": {fails(503, "wrong-word"), []string{"the client has no token to show", "it answers 503 Service Unavailable"}},
		"no token":     {fails(200, `{"token_type": "wrong-word"}`), []string{"its answer holds no token"}},
		"expired":      {fails(200, `{"access_token": "wrong-word", "expires_in": 1}`), []string{"it is good for less than 2s"}},
		"not taken":    {fails(200, `{"access_token": "wrong-word", "expires_in": 100}`), []string{"it does not take the token of the client"}},
		"somebody else": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
		}, []string{"it answers 307 Temporary Redirect"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sasl, asked := endpoint(tt.answer)
			c := clusterOf(bearers(t, only("dynamic")), sasl)
			_, err := kafka.OpenTopics(c)
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
			if text := fmt.Sprintf("%+v %+v %v", c, c.SASL, err); strings.Contains(text, "wrong-word") || strings.Contains(text, "realm") {
				t.Errorf("a secret shows in %s", text)
			}
			if err := c.Ping(t.Context()); (err == nil) != (name == "not taken") {
				t.Errorf("ping: %v", err)
			}
			if n := asked.Load(); n > 20 {
				t.Errorf("the endpoint was asked %d times", n)
			}
		})
	}
}
