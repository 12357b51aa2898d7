// Package revocation tells whether the certificates of a connection were revoked, by the lists (CRLs, RFC 5280) of those who issued them.
//
// It fails closed: a certificate whose list cannot be had is refused. It knows nothing of who connects, and why.
package revocation

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"kafkagrpc/internal/loglimit"
)

const (
	timeout = 5 * time.Second // for all lists that are fetched for one connection; those that are there by then count for the next one

	// leeway is for clocks that differ, and for the next list, which may be there a moment after its time.
	leeway = time.Minute

	mostAge    = time.Hour   // a list is fetched again when it is as old, though it may be good for longer
	pause      = time.Second // before a list that is missing is asked for again
	longPause  = time.Minute // the same where one is at hand that is good still
	mostPlaces = 4           // of one list
	mostLists  = 100         // that are kept
	mostKept   = 32 << 20    // bytes of all lists that are kept, as they were fetched
	mostBytes  = 10 << 20    // of one list
)

// Refusal says why a certificate is refused.
type Refusal struct {
	Revoked bool // false: nobody can tell whether it is

	certificate *x509.Certificate
	why         error
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("the certificate of `%s` (serial %x, issued by `%s`) is refused: %v", r.certificate.Subject, r.certificate.SerialNumber, r.certificate.Issuer, r.why)
}

func (r *Refusal) Unwrap() error { return r.why }

// Lists are fetched when a certificate needs them, and kept. Safe for concurrent use.
type Lists struct {
	now    func() time.Time
	client http.Client
	log    atomic.Pointer[slog.Logger] // nil: who asks tells it alone
	limits *loglimit.Kinds

	mu   sync.Mutex
	kept map[source]*state
}

// New are no lists yet.
func New(now func() time.Time) *Lists {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // a list is fetched once an hour
	return &Lists{now: now, client: http.Client{Transport: transport}, limits: loglimit.NewKinds(time.Minute), kept: map[source]*state{}}
}

// shared are those of the program: whoever needs a list needs the same one.
var shared = New(time.Now)

// Check is Lists.Check with the lists of the program.
func Check(connection tls.ConnectionState) error { return shared.Check(connection) }

// LogTo is where the lists of the program tell what is refused, and which of them cannot be fetched.
func LogTo(log *slog.Logger) { shared.log.Store(log) }

// Check is for [tls.Config.VerifyConnection]: of a chain of the other side's certificates that was verified, none may be revoked but the
// last, which is trusted as it is. It waits for lists that are missing.
func (l *Lists) Check(connection tls.ConnectionState) error {
	if len(connection.PeerCertificates) == 0 {
		return nil // none was asked for, or none is needed
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	refused := &Refusal{certificate: connection.PeerCertificates[0], why: errors.New("nobody whom we trust has signed it")}
	for _, chain := range connection.VerifiedChains {
		if refused = l.checkChain(ctx, chain); refused == nil {
			return nil
		}
	}
	l.tell(refused.certificate.Issuer.String()+refused.certificate.SerialNumber.String(), "a connection is refused for a certificate", "error", refused)
	return refused
}

func (l *Lists) checkChain(ctx context.Context, chain []*x509.Certificate) *Refusal {
	for i, c := range chain[:len(chain)-1] {
		revoked, err := l.revoked(ctx, c, chain[i+1])
		if err != nil {
			return &Refusal{Revoked: revoked, certificate: c, why: err}
		}
	}
	return nil
}

// revoked answers an error unless the certificate is good.
func (l *Lists) revoked(ctx context.Context, c, issuer *x509.Certificate) (bool, error) {
	var places []string
	for _, p := range c.CRLDistributionPoints {
		if u, err := url.Parse(p); err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && len(places) < mostPlaces {
			places = append(places, p)
		}
	}
	if len(places) == 0 {
		return false, errors.New("it names no revocation list that http or https leads to (CRL distribution point), so nobody can tell whether it is revoked")
	}
	known, err := l.get(ctx, places, issuer)
	if err != nil {
		return false, fmt.Errorf("its revocation list cannot be had, so nobody can tell whether it is revoked: %w", err)
	}
	if c.IsCA && known.usersOnly || !c.IsCA && known.authoritiesOnly {
		return false, errors.New("its revocation list is not for certificates of its kind")
	}
	if at, is := known.revoked[string(c.SerialNumber.Bytes())]; is {
		return true, fmt.Errorf("it was revoked on %s", at.UTC().Format(time.RFC3339))
	}
	return false, nil
}

// source is where certificates of an issuer have their list.
type source struct {
	places string
	issuer [sha256.Size]byte
}

// state is what is known of a list.
type state struct {
	list     *list         // nil: there was none yet
	failed   error         // why the last try has brought none; nil: it has
	next     time.Time     // when to fetch it again
	fetching chan struct{} // closed when the fetching that is under way ends; nil: none is
	used     time.Time
}

// get is the list that may be had at any of some places. One fetches it, and others wait for that unless theirs is good still.
func (l *Lists) get(ctx context.Context, places []string, issuer *x509.Certificate) (*list, error) {
	key := source{strings.Join(places, "\n"), sha256.Sum256(issuer.Raw)}
	for {
		l.mu.Lock()
		s := l.kept[key]
		if s == nil {
			s = &state{}
			l.kept[key] = s
		}
		now := l.now()
		s.used = now
		good, failed, fetching := s.list, s.failed, s.fetching
		if good != nil && good.over(now) {
			good = nil
		}
		waits := now.Before(s.next)
		if fetching == nil && !(waits && (good != nil || failed != nil)) {
			s.fetching = make(chan struct{})
			l.mu.Unlock()
			got, err := l.fetch(ctx, places, issuer)
			if old := l.fetched(s, got, err); old != nil {
				l.tell(key.places, "a revocation list cannot be fetched again; the old one counts as long as it is valid", "until", old.until, "error", err)
			}
			continue
		}
		l.mu.Unlock()
		switch {
		case good != nil:
			return good, nil
		case fetching == nil:
			return nil, failed
		}
		select {
		case <-fetching:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// fetched puts in what a fetching has brought. Where that is nothing, it answers the list of before, if it is good still.
func (l *Lists) fetched(s *state, got *list, err error) (old *list) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(s.fetching)
	now := l.now()
	s.fetching, s.failed = nil, err
	switch {
	case err == nil:
		s.list, s.next = got, earlier(now.Add(mostAge), got.until)
		if s.next.Before(now.Add(pause)) {
			s.next = now.Add(pause)
		}
	case s.list == nil || s.list.over(now):
		s.list, s.next = nil, now.Add(pause)
	default:
		old, s.next = s.list, earlier(now.Add(longPause), s.list.until.Add(leeway))
	}
	l.trim()
	return old
}

// trim forgets those lists that were used least recently, where there are too many. It is called under mu.
func (l *Lists) trim() {
	for {
		var oldest source
		bytes, found := 0, false
		for key, s := range l.kept {
			if s.list != nil {
				bytes += s.list.bytes
			}
			if s.fetching == nil && (!found || s.used.Before(l.kept[oldest].used)) {
				oldest, found = key, true
			}
		}
		if !found || len(l.kept) <= mostLists && bytes <= mostKept {
			return
		}
		delete(l.kept, oldest)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (l *Lists) tell(kind, message string, attributes ...any) {
	if log := l.log.Load(); log != nil {
		l.limits.Of(kind).Log(log, slog.LevelWarn, message, attributes...)
	}
}
