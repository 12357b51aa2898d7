package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/revocation"
)

// refused asks the bootstrap brokers whether they take this client. It answers an error only where each of them says
// no for good: a certificate or a password that is wrong now is wrong in ten seconds, unlike a broker that only starts.
// A client would try again until its patience ends.
func (c Cluster) refused() error {
	answers := make([]error, len(c.Brokers))
	var asking sync.WaitGroup
	for i, address := range c.Brokers {
		asking.Go(func() { _, _, answers[i] = c.greet(address) })
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

// greet opens a connection with all that belongs to it, asks for the brokers of the cluster, and closes it. Not all that goes wrong while a connection is
// opened is told before its first request; a listener that wants SASL takes this one from nobody without.
func (c Cluster) greet(address string) (*kmsg.MetadataResponse, *tls.ConnectionState, error) {
	answer, security, err := c.askBroker(context.Background(), address, greetTimeout, metadataRequest())
	metadata, _ := answer.(*kmsg.MetadataResponse)
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
	case errors.Is(err, kerr.SaslAuthenticationFailed) && c.SASL != nil && c.SASL.Tokens != nil:
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
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return "user name or password are wrong for " + c.mechanism() + "; check `options.sasl` of the kafka client binding", true
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return "it does not take " + c.mechanism() + " on this port; check `options.sasl.mechanism` and the port", true
	case errors.Is(err, kerr.IllegalSaslState), c.SASL != nil && errors.Is(err, kerr.UnsupportedVersion):
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

// unreachable is the error of a cluster that no client could be made for. Where it does not say why, it being that of one broker, all are asked once
// more.
func (c Cluster) unreachable(err error) error {
	at := strings.Join(c.Brokers, ", ")
	why, _ := c.refusal(err)
	for _, address := range c.Brokers {
		if why != "" {
			break
		}
		_, _, answer := c.greet(address)
		if why, _ = c.refusal(answer); why != "" {
			err = answer
		}
	}
	if why != "" {
		return fmt.Errorf("cannot reach Kafka at %s: %s: %w", at, why, err)
	}
	return fmt.Errorf("cannot reach Kafka at %s; is it running, and is the address right? %w", at, err)
}
