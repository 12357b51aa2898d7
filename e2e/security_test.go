package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/e2e/realkafka"
	"kafkagrpc/internal/pkitest"
)

// secureWorld is a real Kafka with a listener for each way to be secure, or wrong, and the seed's configuration.
type secureWorld struct {
	*world
	trusted, unknown *pkitest.Authority
}

func newSecureWorld(t *testing.T) *secureWorld {
	t.Helper()
	realkafka.Need(t)
	w := &secureWorld{
		world:   &world{t: t, dir: t.TempDir(), state: t.TempDir()},
		trusted: pkitest.NewAuthority(t, "trusted"), unknown: pkitest.NewAuthority(t, "unknown"),
	}
	stores := t.TempDir()
	properties := map[string]string{}
	serve := func(listener string, certificate tls.Certificate) {
		path := filepath.Join(stores, listener+".p12")
		pkitest.WriteKey(t, path, certificate)
		maps.Copy(properties, map[string]string{
			"listener.name." + listener + ".ssl.keystore.type":     "PKCS12",
			"listener.name." + listener + ".ssl.keystore.location": path,
			"listener.name." + listener + ".ssl.keystore.password": pkitest.Password,
			"listener.name." + listener + ".ssl.key.password":      pkitest.Password,
		})
	}
	for _, listener := range []string{"tls", "mutual", "plain", "scram"} {
		serve(listener, w.trusted.Issue(t, "127.0.0.1"))
	}
	serve("expired", w.trusted.IssueUntil(t, time.Now().Add(-time.Hour), "127.0.0.1"))
	serve("otherhost", w.trusted.Issue(t, "kafka.example"))
	serve("untrusted", w.unknown.Issue(t, "127.0.0.1"))
	trust := filepath.Join(stores, "trust.p12")
	pkitest.WriteTrust(t, trust, map[string]*x509.Certificate{"trusted": w.trusted.Certificate})
	jaas := "org.apache.kafka.common.security."
	maps.Copy(properties, map[string]string{
		"authorizer.class.name":                              "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users":                                        "User:ANONYMOUS;User:CN=client;User:ann",
		"listener.name.mutual.ssl.client.auth":               "required",
		"listener.name.mutual.ssl.truststore.type":           "PKCS12",
		"listener.name.mutual.ssl.truststore.location":       trust,
		"listener.name.mutual.ssl.truststore.password":       pkitest.Password,
		"listener.name.plain.sasl.enabled.mechanisms":        "PLAIN",
		"listener.name.plain.plain.sasl.jaas.config":         jaas + `plain.PlainLoginModule required user_ann="right-word";`,
		"listener.name.scram.sasl.enabled.mechanisms":        "SCRAM-SHA-256,SCRAM-SHA-512",
		"listener.name.scram.scram-sha-256.sasl.jaas.config": jaas + "scram.ScramLoginModule required;",
		"listener.name.scram.scram-sha-512.sasl.jaas.config": jaas + "scram.ScramLoginModule required;",
	})
	w.kafka = realkafka.Start(t, realkafka.Options{Properties: properties, Listeners: map[string]string{
		"tls": "SSL", "mutual": "SSL", "expired": "SSL", "otherhost": "SSL", "untrusted": "SSL", "plain": "SASL_SSL", "scram": "SASL_SSL",
	}})
	w.addUser("ann", "right-word")
	w.create(2, nil, requestTopic, replyTopic)
	w.echo = start(t, exec.Command(binary(t, "echoservice")))
	w.addr = strings.TrimPrefix(w.echo.await("listening "), "listening ")
	writeSeed(t, w.dir)
	pkitest.WriteTrust(t, filepath.Join(w.dir, "tls", "trust.p12"), map[string]*x509.Certificate{"trusted": w.trusted.Certificate})
	pkitest.WriteKey(t, filepath.Join(w.dir, "tls", "client.p12"), w.trusted.Issue(t, "client"))
	pkitest.WriteKey(t, filepath.Join(w.dir, "tls", "stranger.p12"), w.unknown.Issue(t, "client"))
	return w
}

// addUser gives a user a password for SCRAM, and waits until the broker knows it.
func (w *secureWorld) addUser(user, word string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.Brokers()...))
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	mechanisms := []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512}
	for _, mechanism := range mechanisms { // one at a time: Kafka takes a user once in a request
		altered, alterErr := admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: user, Mechanism: mechanism, Iterations: 4096, Password: word}})
		if err = alterErr; err == nil {
			err = altered.Error()
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	for known := 0; err == nil && known < len(mechanisms); {
		var described kadm.DescribedUserSCRAMs
		if described, err = admin.DescribeUserSCRAMs(ctx, user); err == nil {
			known = len(described[user].CredInfos)
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// permit gives a user what docs/security.md says that a group needs of resources of some kinds, and no more.
func (w *secureWorld) permit(user, group string, kinds ...string) {
	w.t.Helper()
	page, err := os.ReadFile("../docs/security.md")
	if err != nil {
		w.t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "<!-- acls: begin -->\n")
	table, _, found := strings.Cut(table, "<!-- acls: end -->")
	rows := strings.Split(strings.TrimSpace(table), "\n")
	if !found || len(rows) < 3 {
		w.t.Fatal("docs/security.md has no table of permissions")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	admin := kadm.NewClient(w.client())
	for _, row := range rows[2:] { // below the head
		cells := strings.Split(strings.Trim(row, "| "), " | ")
		if !slices.Contains(kinds, cells[0]) {
			continue
		}
		var names []string
		for name := range strings.SplitSeq(cells[1], ", ") {
			name = strings.NewReplacer("request topics", requestTopic, "reply topics", replyTopic, "`", "", "<group>", group).Replace(name)
			names = append(names, name)
		}
		acls := kadm.NewACLs().Allow("User:" + user).AllowHosts().ResourcePatternType(kadm.ACLPatternLiteral)
		switch cells[0] {
		case "topic":
			acls = acls.Topics(names...)
		case "group":
			acls = acls.Groups(names...)
		case "transactional id":
			prefix, _ := strings.CutSuffix(names[0], "*")
			acls = acls.TransactionalIDs(prefix).ResourcePatternType(kadm.ACLPatternPrefixed)
		default:
			w.t.Fatalf("a permission of an unknown kind: %s", row)
		}
		var operations []kadm.ACLOperation
		for name := range strings.SplitSeq(cells[2], ", ") {
			operation, err := kmsg.ParseACLOperation(name)
			if err != nil {
				w.t.Fatal(err)
			}
			operations = append(operations, operation)
		}
		created, err := admin.CreateACLs(ctx, acls.Operations(operations...))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, c := range created {
			if c.Err != nil {
				w.t.Fatal(c.Err)
			}
		}
	}
}

// configure writes the seed's file with a Kafka client that is secured, as a group of its own.
func (w *secureWorld) configure(name, sasl, tlsOptions, keys string) {
	w.t.Helper()
	path := filepath.Join(w.dir, "zilla.yaml")
	seed, err := os.ReadFile(filepath.Join(w.dir, "zilla.yaml.seed"))
	if os.IsNotExist(err) {
		if seed, err = os.ReadFile(path); err == nil {
			err = os.WriteFile(path+".seed", seed, 0o600)
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
	edits := []struct{ old, new string }{
		{"name: example\n", "name: " + name + "\n"},
		{"    options:\n      servers:\n        - kafka:29092\n    exit: south_tcp_client\n",
			"    options:\n      servers:\n        - kafka:29092\n" + sasl + "    exit: south_tls_client\n" +
				"  south_tls_client:\n    type: tls\n    kind: client\n    vault: my_kafka\n    options:\n" + tlsOptions + "    exit: south_tcp_client\n"},
		{"bindings:\n", "  my_kafka:\n    type: filesystem\n    options:\n" +
			"      trust:\n        store: tls/trust.p12\n        type: pkcs12\n        password: ${{env.KEYSTORE_PASSWORD}}\n" +
			"      keys:\n        store: tls/" + keys + "\n        type: pkcs12\n        password: ${{env.KEYSTORE_PASSWORD}}\nbindings:\n"},
	}
	text := string(seed)
	for _, e := range edits {
		if strings.Count(text, e.old) != 1 {
			w.t.Fatalf("the seed's file does not have exactly one\n%s", e.old)
		}
		text = strings.Replace(text, e.old, e.new, 1)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func saslOptions(mechanism, user, password string) string {
	return fmt.Sprintf("      sasl:\n        mechanism: %s\n        username: %s\n        password: %s\n", mechanism, user, password)
}

const (
	trustOption = "      trust:\n        - trusted\n"
	keysOption  = "      keys:\n        - client\n"
)

// secured is kafka-grpc on one listener of Kafka.
func (w *secureWorld) secured(listener string, args ...string) *exec.Cmd {
	w.t.Helper()
	all := append([]string{args[0], "-c", filepath.Join(w.dir, "zilla.yaml")}, args[1:]...)
	c := w.command(append(all, "--brokers", w.kafka.Listener(listener))...)
	return c
}

// Calls go through a real Kafka on each kind of secure listener; what is wrong ends the start with an error that says
// what, without the password.
func TestSecureKafka(t *testing.T) {
	w := newSecureWorld(t)
	works := []struct{ name, listener, sasl, tls string }{
		{"tls", "tls", "", trustOption},
		{"mutual-tls", "mutual", "", trustOption + keysOption},
		{"plain", "plain", saslOptions("plain", "ann", "right-word"), trustOption},
		{"scram-sha-256", "scram", saslOptions("scram-sha-256", "ann", "right-word"), trustOption},
		{"scram-sha-512", "scram", saslOptions("scram-sha-512", "ann", "right-word"), trustOption},
	}
	for _, tt := range works {
		t.Run(tt.name, func(t *testing.T) {
			w.configure(tt.name, tt.sasl, tt.tls, "client.p12")
			p := start(t, w.secured(tt.listener, "run", "--listen", "127.0.0.1", "--state-dir", t.TempDir()))
			p.await("ready ")
			out, errs, code := w.grpcurl(plainAddress, "-plaintext", "-H", "idempotency-key: "+tt.name, "-d", `{"message":"hi"}`)
			if code != 0 || !strings.Contains(out, `"hi"`) {
				t.Errorf("exit code %d: %s%s", code, out, errs)
			}
			if h := w.health(p.admin()); h.code != 0 { // which asks Kafka on a connection of its own
				t.Errorf("%+v", h)
			}
			tried, errs, code := output(t, w.secured(tt.listener, "check", "--connect"))
			if code != 0 || strings.Contains(tried, "FAILED") || !strings.Contains(tried, "TLS 1.3") {
				t.Errorf("check --connect: exit code %d: %s%s", code, tried, errs)
			}
			p.signal(os.Interrupt)
			if code := p.wait(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if strings.Contains(p.output(), "right-word") {
				t.Error("the password is in the log")
			}
		})
	}

	t.Run("least permissions", func(t *testing.T) {
		w.addUser("app", "right-word")
		w.permit("app", "least-west_kafka_grpc_remote_server", "topic", "group")
		w.configure("least", saslOptions("scram-sha-256", "app", "right-word"), trustOption, "client.p12")
		p := start(t, w.secured("scram", "run", "--listen", "127.0.0.1", "--state-dir", t.TempDir()))
		p.await("ready ")
		out, errs, code := w.grpcurl(plainAddress, "-plaintext", "-H", "idempotency-key: least", "-d", `{"message":"hi"}`)
		if code != 0 || !strings.Contains(out, `"hi"`) {
			t.Errorf("exit code %d: %s%s", code, out, errs)
		}
		p.signal(os.Interrupt)
		if code := p.wait(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if strings.Contains(p.output(), "not authorized") {
			t.Errorf("something is not permitted:\n%s", p.output())
		}
	})

	t.Run("exactly once", func(t *testing.T) {
		const group = "once-west_kafka_grpc_remote_server"
		w.addUser("once", "right-word")
		w.permit("once", group, "topic", "group")
		w.configure("once", saslOptions("scram-sha-256", "once", "right-word"), trustOption, "client.p12")
		const options = "\n    options:\n      acks: leader_only\n"
		w.rewrite(options, options+"      processing: {guarantee: exactly-once}\n")
		state := t.TempDir()
		run := func() *exec.Cmd { return w.secured("scram", "run", "--listen", "127.0.0.1", "--state-dir", state) }
		want := "grant it Describe and Write on TransactionalId " + group + "-"
		if out, errs, code := output(t, run()); code != 1 || !strings.Contains(lastLine(errs), want) {
			t.Errorf("without the permission: exit code %d, want 1 with %q in\n%s%s", code, want, out, errs)
		}
		tried, errs, code := output(t, w.secured("scram", "check", "--connect"))
		if code != 1 || !strings.Contains(tried, want+"check") {
			t.Errorf("check --connect without the permission: exit code %d, want 1 with %q in\n%s%s", code, want, tried, errs)
		}
		w.permit("once", group, "transactional id")
		if tried, errs, code = output(t, w.secured("scram", "check", "--connect")); code != 0 || !strings.Contains(tried, "can be had") {
			t.Errorf("check --connect: exit code %d: %s%s", code, tried, errs)
		}
		p := start(t, run())
		p.await("ready ")
		out, errs, code := w.grpcurl(plainAddress, "-plaintext", "-H", "idempotency-key: once", "-d", `{"message":"hi"}`)
		if code != 0 || !strings.Contains(out, `"hi"`) {
			t.Errorf("exit code %d: %s%s", code, out, errs)
		}
		p.signal(os.Interrupt)
		if code := p.wait(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})

	refused := []struct{ name, listener, sasl, tls, keys, want string }{
		{"wrong password, PLAIN", "plain", saslOptions("plain", "ann", "wrong-word"), trustOption, "client.p12", "user name or password are wrong for PLAIN"},
		{"wrong password, SCRAM-SHA-256", "scram", saslOptions("scram-sha-256", "ann", "wrong-word"), trustOption, "client.p12", "user name or password are wrong for SCRAM-SHA-256"},
		{"wrong password, SCRAM-SHA-512", "scram", saslOptions("scram-sha-512", "ann", "wrong-word"), trustOption, "client.p12", "user name or password are wrong for SCRAM-SHA-512"},
		{"unknown user", "scram", saslOptions("scram-sha-512", "bob", "wrong-word"), trustOption, "client.p12", "user name or password are wrong"},
		{"unknown user, PLAIN", "plain", saslOptions("plain", "bob", "wrong-word"), trustOption, "client.p12", "user name or password are wrong"},
		{"mechanism that is not offered", "plain", saslOptions("scram-sha-512", "ann", "wrong-word"), trustOption, "client.p12", "does not take SCRAM-SHA-512"},
		{"no SASL", "scram", "", trustOption, "client.p12", "where it wants SASL, add `options.sasl`"},
		{"expired", "expired", "", trustOption, "client.p12", "its certificate has expired"},
		{"untrusted", "untrusted", "", trustOption, "client.p12", "nobody whom the tls client binding trusts"},
		{"wrong host", "otherhost", "", trustOption, "client.p12", "its certificate is for another host"},
		{"no client certificate", "mutual", "", trustOption, "client.p12", "name one in `keys`"},
		{"a stranger's client certificate", "mutual", "", trustOption + keysOption, "stranger.p12", "client certificate"},
	}
	for _, tt := range refused {
		t.Run(tt.name, func(t *testing.T) {
			w.configure("refused", tt.sasl, tt.tls, tt.keys)
			begun := time.Now()
			out, errs, code := output(t, w.secured(tt.listener, "run", "--listen", "127.0.0.1", "--state-dir", t.TempDir()))
			t.Logf("ended after %s: %s", time.Since(begun).Round(time.Millisecond), lastLine(errs))
			if code != 1 || !strings.Contains(lastLine(errs), tt.want) || !strings.Contains(lastLine(errs), w.kafka.Listener(tt.listener)) {
				t.Errorf("exit code %d, want 1 with %q in\n%s", code, tt.want, errs)
			}
			tried, tryErrs, code := output(t, w.secured(tt.listener, "check", "--connect"))
			if code != 1 || !strings.Contains(tried, "FAILED") || !strings.Contains(tried, tt.want) {
				t.Errorf("check --connect: exit code %d, want 1 with %q in\n%s%s", code, tt.want, tried, tryErrs)
			}
			if strings.Contains(out+errs+tried+tryErrs, "wrong-word") {
				t.Error("the password is printed")
			}
		})
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
