package kafka_test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/pkitest"
	"kafkagrpc/internal/revocation"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

func secured(t *testing.T, options ...kfake.Opt) []string {
	t.Helper()
	c, err := kfake.NewCluster(append(options, kfake.NumBrokers(1), kfake.SeedTopics(1, "t"),
		kfake.BrokerConfigs(map[string]string{"default.replication.factor": "1"}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()
}

func sasl(mechanism sarama.SASLMechanism, user, password string) *kafka.SASL {
	return &kafka.SASL{Mechanism: mechanism, Username: user, Password: topology.Secret(password)}
}

// Everything that connects takes the way of TLS and SASL.
func TestSecured(t *testing.T) {
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	server := &tls.Config{Certificates: []tls.Certificate{authority.Issue(t, "127.0.0.1")}}
	mutual := server.Clone()
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, authority.Pool()
	trust := &tls.Config{RootCAs: authority.Pool()}
	withKey := trust.Clone()
	withKey.Certificates = []tls.Certificate{authority.Issue(t, "client")}
	user := func(method string) []kfake.Opt {
		return []kfake.Opt{kfake.EnableSASL(), kfake.Superuser(method, "ann", "secret-word")}
	}
	tests := map[string]struct {
		server []kfake.Opt
		client kafka.Cluster
	}{
		"TLS":           {[]kfake.Opt{kfake.TLS(server)}, kafka.Cluster{TLS: trust}},
		"mutual TLS":    {[]kfake.Opt{kfake.TLS(mutual)}, kafka.Cluster{TLS: withKey}},
		"PLAIN":         {user("PLAIN"), kafka.Cluster{SASL: sasl(sarama.SASLTypePlaintext, "ann", "secret-word")}},
		"SCRAM-SHA-256": {user("SCRAM-SHA-256"), kafka.Cluster{SASL: sasl(sarama.SASLTypeSCRAMSHA256, "ann", "secret-word")}},
		"SCRAM-SHA-512": {user("SCRAM-SHA-512"), kafka.Cluster{SASL: sasl(sarama.SASLTypeSCRAMSHA512, "ann", "secret-word")}},
		"both": {append(user("SCRAM-SHA-512"), kfake.TLS(server)),
			kafka.Cluster{TLS: trust, SASL: sasl(sarama.SASLTypeSCRAMSHA512, "ann", "secret-word")}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := tt.client
			c.Brokers = secured(t, tt.server...)
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
		})
	}
}

// A refusal is told at once (kfake hangs up on a wrong password, a real Kafka says so), in the words of the configuration, and without the password.
func TestRefused(t *testing.T) {
	t.Parallel()
	authority, stranger := pkitest.NewAuthority(t, "authority"), pkitest.NewAuthority(t, "stranger")
	serving := func(c tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{c}} }
	good := serving(authority.Issue(t, "127.0.0.1"))
	mutual := good.Clone()
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, authority.Pool()
	trust := &tls.Config{RootCAs: authority.Pool()}
	strangers := trust.Clone()
	strangers.Certificates = []tls.Certificate{stranger.Issue(t, "client")}
	user := []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("PLAIN", "ann", "right"), kfake.Superuser("SCRAM-SHA-256", "ann", "right")}
	tests := map[string]struct {
		server []kfake.Opt
		client kafka.Cluster
		want   string
	}{
		"untrusted":                    {[]kfake.Opt{kfake.TLS(good)}, kafka.Cluster{TLS: &tls.Config{RootCAs: stranger.Pool()}}, "nobody whom the tls client binding trusts"},
		"expired":                      {[]kfake.Opt{kfake.TLS(serving(authority.IssueUntil(t, time.Now().Add(-time.Hour), "127.0.0.1")))}, kafka.Cluster{TLS: trust}, "has expired"},
		"wrong host":                   {[]kfake.Opt{kfake.TLS(serving(authority.Issue(t, "kafka.example")))}, kafka.Cluster{TLS: trust}, "for another host"},
		"no client certificate":        {[]kfake.Opt{kfake.TLS(mutual)}, kafka.Cluster{TLS: trust}, "asks for a client certificate"},
		"untrusted client certificate": {[]kfake.Opt{kfake.TLS(mutual)}, kafka.Cluster{TLS: strangers}, "client certificate"},
		"no TLS there":                 {nil, kafka.Cluster{TLS: trust}, "is TLS spoken there?"},
		"wrong password, PLAIN":        {user, kafka.Cluster{SASL: sasl(sarama.SASLTypePlaintext, "ann", "wrong-word")}, "check user name and password"},
		"wrong password, SCRAM":        {user, kafka.Cluster{SASL: sasl(sarama.SASLTypeSCRAMSHA256, "ann", "wrong-word")}, "check user name and password"},
		"unknown user":                 {user, kafka.Cluster{SASL: sasl(sarama.SASLTypeSCRAMSHA256, "bob", "right")}, "check user name and password"},
		"SASL missing":                 {user, kafka.Cluster{}, "add a tls client binding or `options.sasl`"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := tt.client
			c.Brokers = secured(t, tt.server...)
			connect := map[string]func() error{
				"topics": func() error { _, err := kafka.OpenTopics(c); return err },
				"reader": func() error { _, err := kafka.NewReader(c); return err },
			}
			for what, open := range connect {
				err := open()
				if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), c.Brokers[0]) {
					t.Errorf("%s: got %v, want %q and the address", what, err, tt.want)
				}
				if text := fmt.Sprintf("%+v %v", c, err); strings.Contains(text, "wrong-word") {
					t.Errorf("%s: the password shows in %s", what, text)
				}
			}
		})
	}
}

// A broker whose certificate was revoked is refused for good, and one of which nobody can tell is asked again.
func TestRevokedBroker(t *testing.T) {
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	put := authority.Publish(t)
	certificate := authority.Issue(t, "127.0.0.1")
	c := kafka.Cluster{
		Brokers: secured(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{certificate}})),
		TLS:     &tls.Config{RootCAs: authority.Pool(), VerifyConnection: revocation.New(time.Now).Check},
	}
	probe := func() error { return c.Probe()[0].Err }
	if err := probe(); err == nil || !strings.Contains(err.Error(), "nobody can tell whether its certificate was revoked") || !strings.Contains(err.Error(), "503") {
		t.Errorf("without a list: %v", err)
	}
	put(authority.Revoke(t, nil))
	topics, err := kafka.OpenTopics(c) // which tries again until a list is there
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

	put(authority.Revoke(t, nil, certificate.Leaf))
	c.TLS = c.TLS.Clone()
	c.TLS.VerifyConnection = revocation.New(time.Now).Check
	if _, err := kafka.OpenTopics(c); err == nil || !strings.Contains(err.Error(), "was revoked; give it another one") {
		t.Errorf("revoked: %v", err)
	}
}

// One broker that is up is enough, whatever the others are.
func TestOneOfSeveralBrokersIsEnough(t *testing.T) {
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	good := secured(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{authority.Issue(t, "127.0.0.1")}}))
	bad := secured(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{authority.Issue(t, "kafka.example")}}))
	c := kafka.Cluster{Brokers: []string{bad[0], "127.0.0.1:1", good[0]}, TLS: &tls.Config{RootCAs: authority.Pool()}}
	topics, err := kafka.OpenTopics(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := topics.Close(); err != nil {
		t.Error(err)
	}
	newTail(t, c, func(wire.Record) {}, "t")
}
