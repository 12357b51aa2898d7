package kafka

import (
	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"

	"kafkagrpc/topology"
)

// SASL is how a client names itself to the brokers.
type SASL struct {
	Mechanism sarama.SASLMechanism // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
	Username  string
	Password  topology.Secret
}

var mechanisms = map[string]sarama.SASLMechanism{
	"plain":         sarama.SASLTypePlaintext,
	"scram-sha-256": sarama.SASLTypeSCRAMSHA256,
	"scram-sha-512": sarama.SASLTypeSCRAMSHA512,
}

// ClusterOf is how a cluster of a configuration is reached, with its TLS and SASL.
func ClusterOf(c *topology.Cluster, clientID string) Cluster {
	k := Cluster{Brokers: c.Brokers, ClientID: clientID}
	if c.TLS != nil {
		k.TLS = c.TLS.Config
	}
	if s := c.SASL; s != nil {
		k.SASL = &SASL{Mechanism: mechanisms[s.Mechanism], Username: s.Username, Password: s.Password}
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
	switch c.SASL.Mechanism {
	case sarama.SASLTypeSCRAMSHA256:
		s.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{hash: scram.SHA256} }
	case sarama.SASLTypeSCRAMSHA512:
		s.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{hash: scram.SHA512} }
	}
}

// scramClient is one conversation, as sarama asks for it.
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
