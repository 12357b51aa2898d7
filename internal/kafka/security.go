package kafka

import (
	"context"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/xdg-go/scram"

	"kafkagrpc/topology"
)

// SASL is how a client names itself to the brokers.
type SASL struct {
	Mechanism sarama.SASLMechanism // PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER
	Username  string
	Password  topology.Secret
	Tokens    *Tokens // of OAUTHBEARER, in place of a name and a password
}

var mechanisms = map[string]sarama.SASLMechanism{
	"plain":         sarama.SASLTypePlaintext,
	"scram-sha-256": sarama.SASLTypeSCRAMSHA256,
	"scram-sha-512": sarama.SASLTypeSCRAMSHA512,
	"oauthbearer":   sarama.SASLTypeOAuth,
	"aws-msk-iam":   sarama.SASLTypeOAuth, // which MSK takes signed tokens by, beside a mechanism of its own that sarama does not have
}

// ClusterOf is how a cluster of a configuration is reached, with its TLS and SASL.
func ClusterOf(c *topology.Cluster, clientID string) Cluster {
	k := Cluster{Brokers: c.Brokers, ClientID: clientID, Rack: c.Rack}
	if c.TLS != nil {
		k.TLS, k.TLSNow = c.TLS.Config, c.TLS.Now
	}
	if s := c.SASL; s != nil {
		k.SASL = &SASL{Mechanism: mechanisms[s.Mechanism], Username: s.Username, Password: s.Password, Tokens: tokensOf(s)}
	}
	return k
}

// authenticate puts SASL into a configuration. TLS is the dialer's.
func (c Cluster) authenticate(s *sarama.Config) {
	if c.SASL == nil {
		return
	}
	s.Net.SASL.Enable = true
	s.Net.SASL.Version = sarama.SASLHandshakeV1
	s.Net.SASL.Mechanism = c.SASL.Mechanism
	s.Net.SASL.User = c.SASL.Username
	s.Net.SASL.Password = string(c.SASL.Password)
	if c.SASL.Tokens != nil {
		s.Net.SASL.TokenProvider = c.SASL.Tokens
	}
	if hash, ok := hashes[c.SASL.Mechanism]; ok {
		s.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{hash: hash} }
	}
}

// mechanism is SASL as franz-go takes it.
func (s *SASL) mechanism() sasl.Mechanism {
	if _, ok := hashes[s.Mechanism]; ok {
		return scramMechanism{s}
	}
	if s.Tokens != nil {
		return oauth.Oauth(s.Tokens.auth)
	}
	return plain.Auth{User: s.Username, Pass: string(s.Password)}.AsMechanism()
}

// hashes are those of the mechanisms that are SCRAM's.
var hashes = map[sarama.SASLMechanism]scram.HashGeneratorFcn{
	sarama.SASLTypeSCRAMSHA256: scram.SHA256,
	sarama.SASLTypeSCRAMSHA512: scram.SHA512,
}

// scramMechanism is the SCRAM of sarama's clients for franz-go, whose own one takes names and passwords without preparing them (RFC 4013).
type scramMechanism struct{ *SASL }

// Name implements sasl.Mechanism.
func (m scramMechanism) Name() string { return string(m.Mechanism) }

// Authenticate implements sasl.Mechanism.
func (m scramMechanism) Authenticate(context.Context, string) (sasl.Session, []byte, error) {
	c := &scramClient{hash: hashes[m.Mechanism]}
	if err := c.Begin(m.Username, string(m.Password), ""); err != nil {
		return nil, nil, err
	}
	first, err := c.Step("")
	return c, []byte(first), err
}

// Challenge implements sasl.Session.
func (c *scramClient) Challenge(challenge []byte) (done bool, answer []byte, err error) {
	text, err := c.Step(string(challenge))
	return c.Done(), []byte(text), err
}

// scramClient is one conversation, as sarama asks for it and, with Challenge, franz-go.
type scramClient struct {
	hash         scram.HashGeneratorFcn
	conversation *scram.ClientConversation
}

func (c *scramClient) Begin(user, password, authorization string) error {
	client, err := c.hash.NewClient(user, password, authorization)
	if err != nil {
		return err
	}
	c.conversation = client.NewConversation()
	return nil
}

func (c *scramClient) Step(challenge string) (string, error) { return c.conversation.Step(challenge) }
func (c *scramClient) Done() bool                            { return c.conversation.Done() }
