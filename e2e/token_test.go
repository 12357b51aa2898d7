package e2e

import (
	"bufio"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kafkagrpc/e2e/realkafka"
)

// issuer gives tokens that a broker can check with the key that it shows.
type issuer struct {
	t      testing.TB
	url    string
	key    *rsa.PrivateKey
	life   time.Duration
	issued atomic.Int32
	down   atomic.Bool
}

func newIssuer(t testing.TB, life time.Duration) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{t: t, key: key, life: life}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		exponent := big.NewInt(int64(key.E)).Bytes()
		i.answer(w, map[string]any{"keys": []any{map[string]any{
			"kty": "RSA", "kid": "one", "use": "sig", "alg": "RS256", "n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(exponent),
		}}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		user, secret, _ := r.BasicAuth()
		switch {
		case i.down.Load():
			http.Error(w, "secret-word", http.StatusServiceUnavailable)
		case user != "kafka-grpc" || secret != "secret-word":
			http.Error(w, `{"error": "invalid_client"}`, http.StatusUnauthorized)
		default:
			i.answer(w, map[string]any{"access_token": i.token(), "token_type": "Bearer", "expires_in": int(i.life.Seconds())})
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	i.url = s.URL
	return i
}

func (i *issuer) answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		i.t.Error(err)
	}
}

// token is a JWT of RS256.
func (i *issuer) token() string {
	now := time.Now()
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			i.t.Error(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	signed := part(map[string]any{"alg": "RS256", "kid": "one", "typ": "JWT"}) + "." + part(map[string]any{
		"iss": "issuer", "aud": "kafka", "sub": "app", "scope": "kafka", "iat": now.Unix(), "exp": now.Add(i.life).Unix(), "jti": strconv.Itoa(int(i.issued.Add(1))),
	})
	hash := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(nil, i.key, crypto.SHA256, hash[:])
	if err != nil {
		i.t.Error(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// connectedFrom are the own ports of the process's connections to a port of this machine.
func connectedFrom(t testing.TB, address string) map[uint16]bool {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	port := func(field string) uint16 {
		_, digits, _ := strings.Cut(field, ":")
		n, _ := strconv.ParseUint(digits, 16, 16)
		return uint16(n)
	}
	to, _ := strconv.Atoi(text)
	all := map[uint16]bool{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 3 && fields[3] == "01" && port(fields[2]) == uint16(to) {
			all[port(fields[1])] = true
		}
	}
	return all
}

// A real Kafka takes tokens that it checks with the issuer's key, and ends sessions after three seconds, and at the latest when a token expires.
// Under load nothing of that is seen: both clients show tokens again on the connections that they have. An issuer that is away for less than
// a token is good for is told of once.
func TestKafkaByToken(t *testing.T) {
	realkafka.Need(t)
	i := newIssuer(t, 20*time.Second)
	t.Setenv("JDK_JAVA_OPTIONS", "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls="+i.url+"/jwks")
	own := "listener.name.bearer."
	w := newWorldOn(t, realkafka.Options{
		Listeners: map[string]string{"bearer": "SASL_PLAINTEXT"},
		Properties: map[string]string{
			own + "sasl.enabled.mechanisms":                         "OAUTHBEARER",
			own + "oauthbearer.sasl.jaas.config":                    "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;",
			own + "oauthbearer.sasl.server.callback.handler.class":  "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler",
			own + "oauthbearer.sasl.oauthbearer.jwks.endpoint.url":  i.url + "/jwks",
			own + "oauthbearer.sasl.oauthbearer.expected.audience":  "kafka",
			own + "oauthbearer.sasl.oauthbearer.expected.issuer":    "issuer",
			own + "oauthbearer.sasl.oauthbearer.clock.skew.seconds": "0",
			own + "oauthbearer.connections.max.reauth.ms":           "3000",
			own + "oauthbearer.sasl.server.max.receive.size":        "65536",
		},
	})
	w.createTopics(4)
	north := w.onFreePorts()
	seed, err := os.ReadFile(filepath.Join(w.dir, "zilla.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	configure := func(t *testing.T, name, sasl string) {
		t.Helper()
		text := strings.Replace(string(seed), "name: example\n", "name: "+name+"\n", 1)
		servers := "      servers:\n        - kafka:29092\n"
		if strings.Count(text, servers) != 1 {
			t.Fatal("the seed's file does not name its servers as it did")
		}
		text = strings.Replace(text, servers, servers+"      sasl: {mechanism: oauthbearer, "+sasl+"}\n", 1)
		if err := os.WriteFile(filepath.Join(w.dir, "zilla.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := func(args ...string) *exec.Cmd {
		return w.command(append([]string{args[0], "-c", filepath.Join(w.dir, "zilla.yaml"), "--brokers", w.kafka.Listener("bearer")}, args[1:]...)...)
	}
	begin := func(t *testing.T) *process {
		p := start(t, command("run", "--listen", "127.0.0.1", "--state-dir", t.TempDir()))
		p.await("ready ")
		return p
	}
	finish := func(t *testing.T, p *process) {
		t.Helper()
		p.signal(os.Interrupt)
		if code := p.wait(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if strings.Contains(p.output(), "secret-word") || strings.Contains(p.output(), "eyJ") {
			t.Error("a secret is in the log")
		}
	}
	endpoint := func(secret string) string {
		return fmt.Sprintf("token-endpoint: {url: %q, client-id: kafka-grpc, client-secret: %s, scope: kafka}", i.url+"/token", secret)
	}

	t.Run("renewed under load", func(t *testing.T) {
		configure(t, "renewed", endpoint("secret-word"))
		p := begin(t)
		c := benchCase{message: 100, inFlight: 32}
		calls := overGRPC([]caller{dial(t, north)}, c, c.most())
		if r := dial(t, north).call("first", "first"); r.err != nil {
			t.Fatal(r.err)
		}
		before := connectedFrom(t, w.kafka.Listener("bearer"))
		issued := i.issued.Load()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		made, ended := new(tally), make(chan error, 1)
		go func() { ended <- calls(ctx, made) }()
		wait := func(tokens int32) {
			t.Helper()
			for over := time.Now().Add(patience); i.issued.Load() < issued+tokens; {
				if p.within(100*time.Millisecond) || time.Now().After(over) {
					t.Fatalf("%d tokens were issued", i.issued.Load()-issued)
				}
			}
		}
		i.down.Store(true)
		p.awaitText("the token for Kafka cannot be renewed")
		i.down.Store(false)
		p.awaitText("the token for Kafka can be renewed again")
		wait(2) // the first one has expired
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		kept, after := 0, connectedFrom(t, w.kafka.Listener("bearer"))
		for port := range before {
			if after[port] {
				kept++
			}
		}
		t.Logf("%d calls, %d tokens, %d of %d connections kept", made.made, i.issued.Load(), kept, len(before))
		if kept < len(before) {
			t.Errorf("%d of %d connections did not last", len(before)-kept, len(before))
		}
		if n := strings.Count(p.output(), "the token for Kafka cannot be renewed"); n != 1 {
			t.Errorf("told %d times", n)
		}
		_, loaded, _ := strings.Cut(p.output(), "ready ")
		for line := range strings.Lines(loaded) {
			if strings.Contains(line, `"level":"WARN"`) && !strings.Contains(line, "the token for Kafka") || strings.Contains(line, `"level":"ERROR"`) {
				t.Errorf("something went wrong: %s", line)
			}
		}
		if h := w.health(p.admin()); h.code != 0 {
			t.Errorf("%+v", h)
		}
		finish(t, p)
	})

	t.Run("static", func(t *testing.T) {
		long := newIssuer(t, time.Hour)
		long.key = i.key
		configure(t, "static", `token: "${{env.KAFKA_TOKEN}}"`)
		c := command("run", "--listen", "127.0.0.1", "--state-dir", t.TempDir())
		c.Env = append(c.Env, "KAFKA_TOKEN="+long.token())
		p := start(t, c)
		p.await("ready ")
		for n := range 3 { // sessions
			if r := dial(t, north).call(fmt.Sprint("static-", n), "hi"); r.err != nil || r.message != "hi" {
				t.Errorf("%+v", r)
			}
			p.within(3 * time.Second) // a session of the broker
		}
		finish(t, p)
	})

	for name, tt := range map[string]struct{ sasl, want string }{
		"wrong secret":    {endpoint("wrong-word"), "check `client-id`, `client-secret` and `scope`"},
		"no such issuer":  {`token-endpoint: {url: "http://127.0.0.1:1/token", client-id: a, client-secret: wrong-word}`, "the client has no token to show"},
		"a token of none": {"token: wrong-word", "it does not take the token of the client"},
	} {
		t.Run(name, func(t *testing.T) {
			configure(t, "refused", tt.sasl)
			out, errs, code := output(t, command("run", "--listen", "127.0.0.1", "--state-dir", t.TempDir()))
			if code != 1 || !strings.Contains(lastLine(errs), tt.want) {
				t.Errorf("exit code %d, want 1 with %q in\n%s", code, tt.want, errs)
			}
			tried, tryErrs, code := output(t, command("check", "--connect"))
			if code != 1 || !strings.Contains(tried, "FAILED") || !strings.Contains(tried, tt.want) {
				t.Errorf("check --connect: exit code %d, want 1 with %q in\n%s%s", code, tt.want, tried, tryErrs)
			}
			if strings.Contains(out+errs+tried+tryErrs, "wrong-word") {
				t.Error("a secret is printed")
			}
		})
	}
}
