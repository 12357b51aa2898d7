package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/aws/aws-msk-iam-sasl-signer-go/signer"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"kafkagrpc/internal/restart"
	"kafkagrpc/topology"
)

const (
	tokenTimeout = 5 * time.Second // to get a token
	tokenLeast   = 2 * time.Second // that a token has to be good for when it is got
	// tokenLeeway is what a token has to last when it is shown, or a tenth of its life: the session ends with it, and brokers refuse who
	// shows another one within a second.
	tokenLeeway = 10 * time.Second
	tokenPause  = time.Second      // before another attempt, at first
	tokenPauses = 30 * time.Second // and at most
	tokenLife   = time.Hour        // after which one is renewed that does not say for how long it is good
)

// Tokens are what a client shows to brokers in place of a password: both clients, on each connection, and again before the brokers end a
// session (KIP-368). One is kept until it is about to expire, and shared by all who show it. Safe for concurrent use.
type Tokens struct {
	source string // for people
	fetch  func(context.Context) (token string, expires time.Time, err error)

	asking chan struct{} // holds whoever asks the source

	mu       sync.Mutex
	token    string
	got      time.Time
	expires  time.Time     // zero: never
	err      error         // of the last attempt, nil after one that went well
	attempt  time.Time     // when the source may be asked again after an error
	pause    time.Duration // what was waited for that
	renewing error         // why Keep could not renew it at the last attempt
	doubted  bool          // a broker has refused it, and the source has not been asked since
}

func newTokens(source string, fetch func(context.Context) (string, time.Time, error)) *Tokens {
	return &Tokens{source: source, fetch: fetch, asking: make(chan struct{}, 1)}
}

// sources are the Tokens of all clusters of the process: whoever connects with the same credentials shows the same token.
var sources = struct {
	mu  sync.Mutex
	all map[any]*Tokens
}{all: map[any]*Tokens{}}

// tokensOf are those that a configuration asks for, nil where it asks for none.
func tokensOf(s *topology.SASL) *Tokens {
	var key any
	var open func() *Tokens
	switch {
	case s.Endpoint.URL != "":
		key, open = s.Endpoint, func() *Tokens { return endpointTokens(s.Endpoint) }
	case s.Region != "":
		key, open = s.Region, func() *Tokens { return awsTokens(s.Region) }
	case s.Token != "":
		return newTokens("the configuration", func(context.Context) (string, time.Time, error) { return string(s.Token), time.Time{}, nil })
	default:
		return nil
	}
	sources.mu.Lock()
	defer sources.mu.Unlock()
	if sources.all[key] == nil {
		sources.all[key] = open()
	}
	return sources.all[key]
}

// endpointTokens come from a token endpoint, by OAuth 2.0 client credentials.
func endpointTokens(e topology.TokenEndpoint) *Tokens {
	where, _, _ := strings.Cut(e.URL, "?")
	c := clientcredentials.Config{ClientID: e.ClientID, ClientSecret: string(e.ClientSecret), TokenURL: e.URL, Scopes: strings.Fields(e.Scope)}
	if e.Audience != "" {
		c.EndpointParams = url.Values{"audience": {e.Audience}}
	}
	client := &http.Client{Timeout: tokenTimeout, Transport: boundedAnswers{&http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, DisableKeepAlives: true, // it is asked now and then
		DialContext: (&net.Dialer{Timeout: tokenTimeout}).DialContext,
	}}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }} // the secret is for nobody else
	return newTokens("the token endpoint "+where, func(ctx context.Context) (string, time.Time, error) {
		t, err := c.Token(context.WithValue(ctx, oauth2.HTTPClient, client))
		if err != nil {
			return "", time.Time{}, endpointError(err)
		}
		return t.AccessToken, t.Expiry, nil
	})
}

// maxTokenAnswer are the bytes of an answer with a token.
const maxTokenAnswer = 1 << 20

type boundedAnswers struct{ *http.Transport }

func (b boundedAnswers) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := b.Transport.RoundTrip(request)
	if err == nil {
		response.Body = http.MaxBytesReader(nil, response.Body, maxTokenAnswer)
	}
	return response, err
}

// endpointError says what went wrong without what an endpoint answers: its body may hold anything.
func endpointError(err error) error {
	var answer *oauth2.RetrieveError
	if errors.As(err, &answer) {
		text := "it answers " + answer.Response.Status
		if code := answer.ErrorCode; code != "" && len(code) < 100 && !strings.ContainsFunc(code, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }) {
			text += ", " + code
		}
		status := answer.Response.StatusCode
		return &tokenError{text: text, final: status == http.StatusUnauthorized || status == http.StatusBadRequest || status == http.StatusForbidden}
	}
	var request *url.Error
	if errors.As(err, &request) {
		return &tokenError{text: request.Err.Error()}
	}
	return &tokenError{text: "its answer holds no token"}
}

// awsTokens are signed here, with the credentials that AWS's programs find: for MSK clusters with IAM.
func awsTokens(region string) *Tokens {
	return newTokens("the AWS credentials", func(ctx context.Context) (string, time.Time, error) {
		token, expires, err := signer.GenerateAuthToken(ctx, region)
		if err != nil {
			return "", time.Time{}, &tokenError{text: err.Error()}
		}
		return token, time.UnixMilli(expires), nil
	})
}

// tokenError is why there is no token.
type tokenError struct {
	source, text string
	final        bool // the client's name or secret is wrong: it will be in ten seconds, too
}

func (e *tokenError) Error() string { return fmt.Sprintf("no token from %s: %s", e.source, e.text) }

// Get is a token that is good. The source is asked where there is none, by one at a time, and after an error not before a pause.
func (t *Tokens) Get(ctx context.Context) (string, error) {
	if token, err, ok := t.known(); ok {
		return token, err
	}
	select {
	case t.asking <- struct{}{}:
		defer func() { <-t.asking }()
	case <-ctx.Done():
		return "", fmt.Errorf("no token from %s: %w", t.source, context.Cause(ctx))
	}
	if token, err, ok := t.known(); ok {
		return token, err
	}
	token, err := t.ask(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil && t.good(time.Now()) {
		return t.token, nil // which is better than none
	}
	return token, err
}

// doubt is told that a broker refuses the token: its issuer may have other keys, or the client other rights. Where it is not new, another one is
// asked for.
func (t *Tokens) doubt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubted = t.doubted || t.token != "" && time.Since(t.got) > tokenPauses
}

// known is what can be said without asking the source.
func (t *Tokens) known() (string, error, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	switch {
	case t.good(now) && (!t.doubted || now.Before(t.attempt)):
		return t.token, nil, true
	case t.err != nil && now.Before(t.attempt):
		return "", t.err, true
	}
	return "", nil, false
}

func (t *Tokens) good(now time.Time) bool {
	return t.token != "" && (t.expires.IsZero() || now.Before(t.expires.Add(-min(tokenLeeway, t.expires.Sub(t.got)/10))))
}

// ask gets a token of the source, which only one at a time may.
func (t *Tokens) ask(ctx context.Context) (string, error) {
	within, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	token, expires, err := t.fetch(within)
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if err == nil && !expires.IsZero() && expires.Sub(now) < tokenLeast {
		err = &tokenError{text: "it is good for less than " + tokenLeast.String()}
	}
	if err != nil {
		if ctx.Err() != nil { // which says nothing of the source
			return "", fmt.Errorf("no token from %s: %w", t.source, context.Cause(ctx))
		}
		why, ok := errors.AsType[*tokenError](err)
		if !ok {
			why = &tokenError{text: err.Error()}
		}
		why.source = t.source
		t.pause = min(max(tokenPause/4, 2*t.pause), tokenPauses)
		t.err, t.attempt = why, now.Add(t.pause)
		return "", why
	}
	t.token, t.got, t.expires, t.err, t.pause, t.doubted = token, now, expires, nil, 0, false
	return token, nil
}

// due is when a token is to be renewed: with a quarter of its life left.
func (t *Tokens) due() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.token == "":
		return time.Time{}
	case t.expires.IsZero():
		return t.got.Add(tokenLife)
	}
	return t.got.Add(t.expires.Sub(t.got) * 3 / 4)
}

// renew asks the source, unless somebody else has just done that.
func (t *Tokens) renew(ctx context.Context) error {
	select {
	case t.asking <- struct{}{}:
		defer func() { <-t.asking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if time.Now().Before(t.due()) {
		return nil
	}
	_, err := t.ask(ctx)
	return err
}

// Keep renews the token before it expires, so that nobody waits for one, until ctx ends. As long as that fails the last one is shown, and
// the log says so once.
func (t *Tokens) Keep(ctx context.Context, log *slog.Logger) {
	for pause := time.Duration(0); ; {
		err := t.renew(ctx)
		if ctx.Err() != nil {
			return
		}
		t.mu.Lock()
		before, until := t.renewing, t.expires
		t.renewing = err
		t.mu.Unlock()
		wait := time.Until(t.due())
		if err != nil {
			pause = min(max(tokenPause, 2*pause), tokenPauses)
			wait = pause
		}
		switch {
		case err == nil && before != nil:
			pause = 0
			log.Info("the token for Kafka can be renewed again", "from", t.source)
		case err != nil && before == nil:
			log.Warn("the token for Kafka cannot be renewed; the last one is shown until it expires", "expires", until, "error", err)
		}
		if !restart.Pause(ctx, wait) {
			return
		}
	}
}

// Check says why there is no token that is good, or nil.
func (t *Tokens) Check(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.good(time.Now()):
		return nil
	case t.err != nil:
		return t.err
	}
	return fmt.Errorf("no token from %s yet", t.source)
}

// Note is why the token cannot be renewed at the moment, "" where it can be.
func (t *Tokens) Note() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.renewing == nil {
		return ""
	}
	return fmt.Sprintf("%v; the last one expires at %s", t.renewing, t.expires.Format(time.RFC3339))
}

// Token implements sarama.AccessTokenProvider.
func (t *Tokens) Token() (*sarama.AccessToken, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*tokenTimeout) // sarama has none
	defer cancel()
	token, err := t.Get(ctx)
	return &sarama.AccessToken{Token: token}, err
}

// auth is a token as franz-go takes it. It fails all records at once when there is none, unless that looks like a broker that cannot
// be reached.
func (t *Tokens) auth(ctx context.Context) (oauth.Auth, error) {
	token, err := t.Get(ctx)
	if err != nil && ctx.Err() == nil {
		err = &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	return oauth.Auth{Token: token}, err
}
