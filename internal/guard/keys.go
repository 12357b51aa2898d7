package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"kafkagrpc/topology"
)

const (
	fetchTime    = 5 * time.Second  // of one try to fetch keys
	betweenTries = time.Second      // at the start
	betweenCalls = 5 * time.Second  // of two fetches that tokens with unknown keys cause
	betweenLooks = 5 * time.Minute  // that a key may count after the issuer has taken it back
	afterFailure = 30 * time.Second // the same, while the issuer does not answer
	maxKeySet    = 1 << 20          // bytes of an answer
)

// keys are those of an issuer.
type keys struct {
	guard   string
	spec    *topology.JWTGuard
	options Options
	client  *http.Client
	changed func()

	mu       sync.Mutex
	current  []jose.JSONWebKey
	tried    time.Time     // the last fetch began, but for the first
	fetching chan struct{} // closed at the end of the one that is under way; nil: none is
	failing  bool          // the last one failed, which was told
}

func newKeys(guard string, spec *topology.JWTGuard, o Options, changed func()) *keys {
	client := &http.Client{Timeout: fetchTime, Transport: o.Transport, CheckRedirect: func(to *http.Request, via []*http.Request) error {
		if via[0].URL.Scheme == "https" && to.URL.Scheme != "https" {
			return errors.New("it leads from https to http")
		}
		if len(via) > 5 {
			return errors.New("it leads on and on")
		}
		return nil
	}}
	return &keys{guard: guard, spec: spec, options: o, client: client, changed: changed, current: spec.Keys}
}

// fixed reports whether the keys are those of the file.
func (k *keys) fixed() bool { return len(k.spec.Keys) > 0 }

// of are the keys that may have signed a token that names one; named is false where there is none. A token that names none has the only
// key there is.
func (k *keys) of(id string) (candidates []jose.JSONWebKey, named bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if id == "" {
		return append(candidates, k.current...), len(k.current) == 1
	}
	for _, key := range k.current {
		if key.KeyID == id {
			candidates = append(candidates, key)
		}
	}
	return candidates, len(candidates) > 0
}

func (k *keys) all() []jose.JSONWebKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.current)
}

// first fetches the keys for the first time, until ctx ends.
func (k *keys) first(ctx context.Context) error {
	if k.fixed() {
		return nil
	}
	for {
		err := k.fetch(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(betweenTries):
		case <-ctx.Done():
			return fmt.Errorf("guard %s: the keys that sign tokens cannot be fetched: %w; is `issuer` or `keys` right, and the issuer up?", k.guard, err)
		}
	}
}

// follow looks for other keys until ctx ends.
func (k *keys) follow(ctx context.Context) {
	if k.fixed() {
		return
	}
	for {
		wait := betweenLooks
		k.mu.Lock()
		if k.failing {
			wait = afterFailure
		}
		k.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
			_ = k.refresh(ctx)
		}
	}
}

// again fetches the keys because a token names another one. Who makes up names must not make the issuer busy: it does so now and then,
// and answers false where it does not.
func (k *keys) again(ctx context.Context) (bool, error) {
	if k.fixed() {
		return false, nil
	}
	k.mu.Lock()
	under := k.fetching
	recent := under == nil && time.Since(k.tried) < betweenCalls
	k.mu.Unlock()
	if recent {
		return false, nil
	}
	if under == nil {
		return true, k.refresh(ctx)
	}
	select {
	case <-under:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// refresh fetches keys in place of those that there are, which stay where that fails. One that is under way is waited for.
func (k *keys) refresh(ctx context.Context) error {
	k.mu.Lock()
	if under := k.fetching; under != nil {
		k.mu.Unlock()
		select {
		case <-under:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	done := make(chan struct{})
	k.fetching, k.tried = done, time.Now()
	k.mu.Unlock()
	err := k.fetch(context.WithoutCancel(ctx)) // others wait for it
	k.mu.Lock()
	k.fetching = nil
	before := k.failing
	k.failing = err != nil
	k.mu.Unlock()
	close(done)
	switch {
	case err != nil && !before:
		k.options.Log.Error("the keys that sign tokens cannot be fetched, so those of before stay", "guard", k.guard, "error", err)
	case err == nil && before:
		k.options.Log.Info("the keys that sign tokens are fetched again", "guard", k.guard)
	}
	return nil
}

// fetch asks for the keys once.
func (k *keys) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	set, err := k.asked(ctx)
	if err != nil {
		k.options.KeysFailed(k.guard)
		return err
	}
	k.mu.Lock()
	others := !sameKeys(k.current, set)
	k.current = set
	k.mu.Unlock()
	if others {
		k.changed()
		k.options.Log.Info("tokens are signed with these keys", "guard", k.guard, slog.Any("keys", names(set)))
	}
	return nil
}

func (k *keys) asked(ctx context.Context) ([]jose.JSONWebKey, error) {
	from := k.spec.KeysURL
	if from == "" {
		var err error
		if from, err = k.discovered(ctx); err != nil {
			return nil, err
		}
	}
	var answer struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := k.get(ctx, from, &answer); err != nil {
		return nil, err
	}
	var set []jose.JSONWebKey
	for _, raw := range answer.Keys {
		var key jose.JSONWebKey
		// A set may have keys of kinds that are not known here, and some that sign no tokens.
		if key.UnmarshalJSON(raw) == nil && key.IsPublic() && key.Use != "enc" {
			set = append(set, key)
		}
	}
	if len(set) == 0 {
		return nil, fmt.Errorf("%s has %d keys, of which none can have signed a token", shown(from), len(answer.Keys))
	}
	return set, nil
}

// errNotFound is that of a page that does not exist.
var errNotFound = errors.New("404 Not Found")

// discovered is where the issuer says that its keys are, as OpenID Connect has it; some say nothing, and have them in a usual place.
func (k *keys) discovered(ctx context.Context) (string, error) {
	issuer := strings.TrimSuffix(k.spec.Issuer, "/")
	var answer struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	err := k.get(ctx, issuer+"/.well-known/openid-configuration", &answer)
	switch {
	case errors.Is(err, errNotFound):
		return issuer + "/.well-known/jwks.json", nil
	case err != nil:
		return "", err
	case answer.Issuer != k.spec.Issuer:
		return "", fmt.Errorf("the issuer calls itself %q, and `issuer` is %q", answer.Issuer, k.spec.Issuer)
	case strings.HasPrefix(issuer, "https:") && !strings.HasPrefix(answer.Keys, "https:"):
		return "", fmt.Errorf("the issuer has its keys at %q, which is not https", shown(answer.Keys))
	}
	return answer.Keys, nil
}

// get reads an answer as JSON.
func (k *keys) get(ctx context.Context, from string, into any) (err error) {
	defer func() {
		var about *url.Error
		if errors.As(err, &about) {
			err = about.Err // which would repeat the whole address
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", shown(from), err)
		}
	}()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/json")
	response, err := k.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusNotFound {
		return errNotFound
	}
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, response.Body, maxKeySet))
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// shown is an address without what may be a secret.
func shown(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "an address that is none"
	}
	u.User, u.RawQuery = nil, ""
	return u.String()
}

func names(set []jose.JSONWebKey) (all []string) {
	for _, key := range set {
		all = append(all, key.KeyID)
	}
	return all
}

func sameKeys(a, b []jose.JSONWebKey) bool {
	one, err1 := json.Marshal(a)
	other, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(one) == string(other)
}
