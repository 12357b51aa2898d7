package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"kafkagrpc/internal/revocation"
)

// refused asks the bootstrap brokers whether they take this client. It answers an error only where each of them says
// no for good: a certificate or a password that is wrong now is wrong in ten seconds, unlike a broker that only starts.
// sarama would try again until its patience ends, and then tell of brokers that it ran out of.
func (c Cluster) refused(config *sarama.Config) error {
	answers := make([]error, len(c.Brokers))
	var asking sync.WaitGroup
	for i, address := range c.Brokers {
		asking.Go(func() { _, _, answers[i] = greet(address, config) })
	}
	asking.Wait()
	problems := make([]error, 0, len(answers))
	for i, err := range answers {
		why, final := c.refusal(err)
		if !final {
			return nil
		}
		problems = append(problems, fmt.Errorf("cannot use Kafka at %s: %s: %w", c.Brokers[i], why, err))
	}
	return errors.Join(problems...)
}

// greetTimeout bounds each step of a greeting.
const greetTimeout = 3 * time.Second

// greet opens a connection with all that belongs to it, asks for the brokers and topics of the cluster, and closes it.
func greet(address string, config *sarama.Config) (*sarama.MetadataResponse, *tls.ConnectionState, error) {
	var security *tls.ConnectionState
	hurried, dialing := *config, *config.Net.Proxy.Dialer.(*dialer)
	dialing.patience = hasty(greetTimeout)
	dialing.shaken = func(state tls.ConnectionState) { security = &state }
	hurried.Net.Proxy.Dialer = &dialing
	broker := sarama.NewBroker(address)
	if err := broker.Open(&hurried); err != nil {
		return nil, nil, err
	}
	// Not all that goes wrong while a connection is opened is told before its first request; a listener that wants SASL
	// takes none before.
	metadata, err := broker.GetMetadata(sarama.NewMetadataRequest(config.Version, nil))
	if closed := broker.Close(); err == nil && !errors.Is(closed, sarama.ErrNotConnected) {
		err = closed
	}
	return metadata, security, err
}

// refusal says in the words of the configuration what an error of a connection means. final: trying again is no use.
func (c Cluster) refusal(err error) (why string, final bool) {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		noTLS     tls.RecordHeaderError
		remote    *net.OpError
		silent    *silentError
		noToken   *tokenError
		refusal   *revocation.Refusal
	)
	switch {
	case err == nil:
		return "", false
	case errors.As(err, &noToken) && noToken.final:
		return "the client gets no token to show; check `client-id`, `client-secret` and `scope` of the kafka client binding", true
	case errors.As(err, &noToken):
		return "the client has no token to show", false
	case errors.Is(err, sarama.ErrSASLAuthenticationFailed) && c.SASL != nil && c.SASL.Tokens != nil:
		c.SASL.Tokens.doubt()
		return "it does not take the token of the client; check who issues it, for whom, and until when, and what the broker wants of it", true
	case errors.As(err, &refusal) && refusal.Revoked:
		return "its certificate, or that of an authority, was revoked; give it another one", true
	case errors.As(err, &refusal):
		return "nobody can tell whether its certificate was revoked", false
	case errors.As(err, &authority):
		return "nobody whom the tls client binding trusts has signed its certificate; check `trust` and `trustcacerts`", true
	case errors.As(err, &host):
		return "its certificate is for another host; name it as in the certificate in `servers`, or set `sni` of the tls client binding", true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired, or is not valid yet; renew it, or check the clock", true
	case errors.As(err, &invalid):
		return "its certificate cannot be used", true
	case errors.As(err, &noTLS):
		return "it does not speak TLS on this port; take the port of a TLS listener, or remove the tls client binding", true
	case errors.Is(err, sarama.ErrSASLAuthenticationFailed):
		return "user name or password are wrong for " + c.mechanism() + "; check `options.sasl` of the kafka client binding", true
	case errors.Is(err, sarama.ErrUnsupportedSASLMechanism):
		return "it does not take " + c.mechanism() + " on this port; check `options.sasl.mechanism` and the port", true
	case errors.Is(err, sarama.ErrIllegalSASLState), errors.Is(err, sarama.ErrUnsupportedVersion) && c.SASL != nil:
		return "it takes no SASL on this port; take the port of a SASL listener, or remove `options.sasl`", true
	case errors.As(err, &remote) && remote.Op == "remote error":
		if c.TLS != nil && len(c.TLS.Certificates) == 0 {
			return "it ended the TLS handshake; where it asks for a client certificate, name one in `keys` of the tls client binding", true
		}
		return "it ended the TLS handshake; check that it trusts the client certificate in `keys` of the tls client binding", true
	case errors.As(err, &silent) && !silent.connected:
		return "", false
	case errors.As(err, &silent):
		return "it takes connections and does not answer; is the port right, and is TLS spoken there?", true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return c.hungUp(), false
	}
	return "", false
}

// hungUp guesses why a broker ended a connection without a word.
func (c Cluster) hungUp() string {
	switch {
	case c.TLS == nil && c.SASL == nil:
		return "it closed the connection at once; where it wants TLS or SASL, add a tls client binding or `options.sasl`"
	case c.TLS == nil:
		return "it closed the connection at once; check user name and password in `options.sasl`, and where it wants TLS, add a tls client binding"
	case c.SASL == nil:
		return "it closed the connection at once; where it wants SASL, add `options.sasl`, and where it speaks no TLS, remove the tls client binding"
	}
	return "it closed the connection at once; check user name and password in `options.sasl`, and that TLS is spoken on this port"
}

func (c Cluster) mechanism() string {
	if c.SASL == nil {
		return "no SASL"
	}
	return string(c.SASL.Mechanism)
}

// unreachable is the error of a cluster that no client could be made for. Where sarama does not say why, because it ran out of
// brokers in the end, the brokers are asked once more.
func (c Cluster) unreachable(err error, config *sarama.Config) error {
	at := strings.Join(c.Brokers, ", ")
	why, _ := c.refusal(err)
	for _, address := range c.Brokers {
		if why != "" {
			break
		}
		_, _, answer := greet(address, config)
		if why, _ = c.refusal(answer); why != "" {
			err = answer
		}
	}
	if why != "" {
		return fmt.Errorf("cannot reach Kafka at %s: %s: %w", at, why, err)
	}
	return fmt.Errorf("cannot reach Kafka at %s; is it running, and is the address right? %w", at, err)
}
