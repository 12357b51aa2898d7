package revocation_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kafkagrpc/internal/pkitest"
	"kafkagrpc/internal/revocation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shop is where lists are had.
type shop struct {
	*httptest.Server
	asked atomic.Int32

	mu      sync.Mutex
	answers map[string][]byte // by path; others are not found
	arrived func()            // before each answer; nil: nothing
}

func newShop(t *testing.T) *shop {
	s := &shop{answers: map[string][]byte{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		s.mu.Lock()
		answer, arrived := s.answers[r.URL.Path], s.arrived
		s.mu.Unlock()
		if arrived != nil {
			arrived()
		}
		if r.URL.Path == "/silent" {
			<-r.Context().Done()
			return
		}
		if answer == nil {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(answer) // who asks tells what is missing
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *shop) put(path string, list []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[path] = list
}

// connected is what there is to know when the other side has shown a certificate with those of authorities.
func connected(c tls.Certificate, chain ...*pkitest.Authority) tls.ConnectionState {
	verified := []*x509.Certificate{c.Leaf}
	for _, a := range chain {
		verified = append(verified, a.Certificate)
	}
	return tls.ConnectionState{PeerCertificates: verified[:1], VerifiedChains: [][]*x509.Certificate{verified}}
}

func scope(t *testing.T, s any) func(*x509.RevocationList) {
	t.Helper()
	der, err := asn1.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return func(l *x509.RevocationList) {
		l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: der}}
	}
}

// onlyFor is the issuingDistributionPoint of a list.
type onlyFor struct {
	Point struct {
		FullName []asn1.RawValue `asn1:"optional,omitempty,tag:0"`
	} `asn1:"optional,omitempty,tag:0"`
	Users       bool           `asn1:"optional,tag:1"`
	Authorities bool           `asn1:"optional,tag:2"`
	SomeReasons asn1.BitString `asn1:"optional,tag:3"`
	Indirect    bool           `asn1:"optional,tag:4"`
}

func at(place string) (o onlyFor) {
	o.Point.FullName = []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(place)}}
	return o
}

func TestCheck(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	authority, other := pkitest.NewAuthority(t, "authority"), pkitest.NewAuthority(t, "other")
	sameName := pkitest.NewAuthority(t, "authority")
	serial := 0
	tests := map[string]struct {
		list    func(c *x509.Certificate, place string) []byte // nil: none
		places  []string                                       // default: one of the shop
		refused string                                         // "": it is not
		revoked bool
	}{
		"good": {list: func(*x509.Certificate, string) []byte { return authority.Revoke(t, nil, other.Certificate) }},
		"revoked": {list: func(c *x509.Certificate, _ string) []byte { return authority.Revoke(t, nil, other.Certificate, c) },
			refused: "it was revoked on ", revoked: true},
		"PEM, revoked": {list: func(c *x509.Certificate, _ string) []byte {
			return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: authority.Revoke(t, nil, c)})
		}, refused: "it was revoked on ", revoked: true},
		"expired": {list: func(*x509.Certificate, string) []byte {
			return authority.Revoke(t, func(l *x509.RevocationList) { l.NextUpdate = time.Now().Add(-2 * time.Minute) })
		}, refused: "it has expired on "},
		"expired within the leeway": {list: func(*x509.Certificate, string) []byte {
			return authority.Revoke(t, func(l *x509.RevocationList) { l.NextUpdate = time.Now().Add(-20 * time.Second) })
		}},
		"of tomorrow": {list: func(*x509.Certificate, string) []byte {
			return authority.Revoke(t, func(l *x509.RevocationList) { l.ThisUpdate = time.Now().Add(time.Hour) })
		}, refused: "it is valid from "},
		"of another authority": {list: func(*x509.Certificate, string) []byte { return other.Revoke(t, nil) }, refused: "it is the list of `CN=other`"},
		"signed by another authority of that name": {list: func(*x509.Certificate, string) []byte { return sameName.Revoke(t, nil) },
			refused: "the issuer has not signed it"},
		"no list":                 {list: func(*x509.Certificate, string) []byte { return []byte("hello") }, refused: "it is no revocation list"},
		"endless":                 {list: func(*x509.Certificate, string) []byte { return make([]byte, 11<<20) }, refused: "it has more than 10 MiB"},
		"not there":               {refused: "it answers 404 Not Found"},
		"no place":                {places: []string{}, refused: "it names no revocation list that http or https leads to"},
		"other places":            {places: []string{"ldap://127.0.0.1/cn=authority", "file:///list", "http:"}, refused: "it names no revocation list that http or https leads to"},
		"a second one":            {places: []string{"http://127.0.0.1:1/list", ""}, list: func(*x509.Certificate, string) []byte { return authority.Revoke(t, nil) }},
		"the first one is silent": {places: []string{s.URL + "/silent", ""}, list: func(*x509.Certificate, string) []byte { return authority.Revoke(t, nil) }},
		"a closed port":           {places: []string{"http://127.0.0.1:1/list"}, refused: "http://127.0.0.1:1/list: dial tcp 127.0.0.1:1: connect: connection refused"},
		"for its place": {list: func(_ *x509.Certificate, place string) []byte {
			o := at(place)
			o.Users = true
			return authority.Revoke(t, scope(t, o))
		}},
		"for its place, revoked": {list: func(c *x509.Certificate, place string) []byte { return authority.Revoke(t, scope(t, at(place)), c) },
			refused: "it was revoked on ", revoked: true},
		"for another place": {list: func(_ *x509.Certificate, place string) []byte { return authority.Revoke(t, scope(t, at(place+"0"))) },
			refused: "it is for certificates that name another distribution point"},
		"for authorities": {list: func(*x509.Certificate, string) []byte {
			return authority.Revoke(t, scope(t, onlyFor{Authorities: true}))
		},
			refused: "is not for certificates of its kind"},
		"for some reasons": {list: func(*x509.Certificate, string) []byte {
			return authority.Revoke(t, scope(t, onlyFor{SomeReasons: asn1.BitString{Bytes: []byte{0x40}, BitLength: 2}}))
		}, refused: "it has some revoked certificates only"},
		"indirect": {list: func(*x509.Certificate, string) []byte { return authority.Revoke(t, scope(t, onlyFor{Indirect: true})) },
			refused: "it has some revoked certificates only"},
		"with something critical": {list: func(*x509.Certificate, string) []byte {
			return authority.Revoke(t, func(l *x509.RevocationList) { // a delta
				l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}}
			})
		}, refused: "it has a critical extension (2.5.29.27)"},
		"with something critical of another": {list: func(*x509.Certificate, string) []byte {
			return authority.Revoke(t, func(l *x509.RevocationList) { // whose certificate it is
				l.RevokedCertificateEntries[0].ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}
			}, other.Certificate)
		}, refused: "an entry of it has a critical extension (2.5.29.29)"},
	}
	for name, tt := range tests {
		serial++
		path := fmt.Sprintf("/%d.crl", serial)
		issuer := *authority
		issuer.Lists = tt.places
		if tt.places == nil {
			issuer.Lists = []string{s.URL + path}
		}
		for i, p := range issuer.Lists {
			if p == "" {
				issuer.Lists[i] = s.URL + path
			}
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := issuer.Issue(t, "client")
			if tt.list != nil {
				s.put(path, tt.list(c.Leaf, s.URL+path))
			}
			err := revocation.New(time.Now).Check(connected(c, authority))
			if (err == nil) != (tt.refused == "") || err != nil && !strings.Contains(err.Error(), tt.refused) {
				t.Fatalf("got %v, want %q", err, tt.refused)
			}
			if err == nil {
				return
			}
			if !strings.Contains(err.Error(), "the certificate of `CN=client` (serial ") || !strings.Contains(err.Error(), "issued by `CN=authority`") {
				t.Errorf("%v does not say whose certificate it is", err)
			}
			if r, ok := errors.AsType[*revocation.Refusal](err); !ok || r.Revoked != tt.revoked {
				t.Errorf("revoked: %v", !tt.revoked)
			}
		})
	}
}

func TestCheckOfChains(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	root := pkitest.NewAuthority(t, "root")
	root.Lists = []string{s.URL + "/root"}
	middle := root.Below(t, "middle")
	middle.Lists = []string{s.URL + "/middle"}
	c := middle.Issue(t, "client")
	check := func() error { return revocation.New(time.Now).Check(connected(c, middle, root)) }

	s.put("/middle", middle.Revoke(t, nil))
	if err := check(); err == nil || !strings.Contains(err.Error(), "`CN=middle`") {
		t.Errorf("without the list of the root: %v", err)
	}
	s.put("/root", root.Revoke(t, nil))
	if err := check(); err != nil {
		t.Error(err)
	}
	s.put("/root", root.Revoke(t, scope(t, onlyFor{Users: true})))
	if err := check(); err == nil || !strings.Contains(err.Error(), "not for certificates of its kind") {
		t.Errorf("a list that is not for authorities: %v", err)
	}
	s.put("/root", root.Revoke(t, nil, middle.Certificate))
	if err := check(); err == nil || !strings.Contains(err.Error(), "`CN=middle`") || !strings.Contains(err.Error(), "it was revoked on") {
		t.Errorf("an authority that is revoked: %v", err)
	}
	trusted := connected(c, middle, root)
	trusted.VerifiedChains = append(trusted.VerifiedChains, []*x509.Certificate{c.Leaf, middle.Certificate})
	if err := revocation.New(time.Now).Check(trusted); err != nil {
		t.Errorf("an authority that is revoked, and is trusted itself: %v", err)
	}
	if err := revocation.New(time.Now).Check(tls.ConnectionState{PeerCertificates: []*x509.Certificate{c.Leaf}}); err == nil {
		t.Error("a certificate that was not verified is let in")
	}
	if err := revocation.New(time.Now).Check(tls.ConnectionState{}); err != nil {
		t.Errorf("no certificate: %v", err)
	}
}

// What is refused is told, once in a while for each certificate.
func TestRefusalsAreLogged(t *testing.T) {
	var written strings.Builder
	revocation.LogTo(slog.New(slog.NewTextHandler(&written, nil)))
	defer revocation.LogTo(nil)
	authority := pkitest.NewAuthority(t, "authority")
	for _, name := range []string{"one", "two"} {
		c := authority.Issue(t, name)
		for range 3 {
			if err := revocation.Check(connected(c, authority)); err == nil {
				t.Error("it is let in")
			}
		}
	}
	if log := written.String(); strings.Count(log, "\n") != 2 || !strings.Contains(log, "`CN=one`") || !strings.Contains(log, "`CN=two`") || !strings.Contains(log, "it names no revocation list") {
		t.Errorf("the log has %s", log)
	}
}

// clock is a time that is moved by hand.
type clock struct {
	begun  time.Time
	passed atomic.Int64
}

func newClock() *clock { return &clock{begun: time.Now()} }

func (c *clock) now() time.Time          { return c.begun.Add(time.Duration(c.passed.Load())) }
func (c *clock) advance(d time.Duration) { c.passed.Add(int64(d)) }

// A list is kept for an hour, and for longer where there is no other one, as long as it is valid.
func TestListsAreKept(t *testing.T) {
	t.Parallel()
	s, passing := newShop(t), newClock()
	lists := revocation.New(passing.now)
	authority := pkitest.NewAuthority(t, "authority")
	authority.Lists = []string{s.URL + "/list"}
	c := authority.Issue(t, "client")
	step := func(what string, after time.Duration, refused string, asked int32) {
		t.Helper()
		passing.advance(after)
		err := lists.Check(connected(c, authority))
		if (err == nil) != (refused == "") || err != nil && !strings.Contains(err.Error(), refused) {
			t.Errorf("%s: got %v, want %q", what, err, refused)
		}
		if got := s.asked.Load(); got != asked {
			t.Errorf("%s: the list was asked for %d times, want %d", what, got, asked)
		}
	}
	until := func(d time.Duration) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) { l.NextUpdate = passing.now().Add(d) }
	}
	step("none is there", 0, "404", 1)
	step("soon after", 100*time.Millisecond, "404", 1)
	s.put("/list", authority.Revoke(t, until(24*time.Hour)))
	step("one is there", 2*time.Second, "", 2)
	step("within an hour", 59*time.Minute, "", 2)
	step("after an hour", 2*time.Minute, "", 3)
	s.put("/list", nil)
	step("it is gone", 61*time.Minute, "", 4)
	step("it is gone still", 30*time.Second, "", 4)
	step("it is asked for again", time.Minute, "", 5)
	step("it is over", 24*time.Hour, "404", 6)
	s.put("/list", authority.Revoke(t, until(10*time.Minute)))
	step("another one", 2*time.Second, "", 7)
	s.put("/list", authority.Revoke(t, until(10*time.Hour), c.Leaf))
	step("as long as it is good", 9*time.Minute, "", 7)
	step("when there is a newer one", 90*time.Second, "it was revoked on", 8)
	s.put("/list", authority.Revoke(t, until(70*time.Minute)))
	step("one for some minutes", time.Hour, "", 9)
	s.put("/list", nil)
	step("it is gone when it is about to be over", 10*time.Minute+20*time.Second, "", 10)
	s.put("/list", authority.Revoke(t, until(time.Hour)))
	step("it is over before it would be asked for again", 50*time.Second, "", 11)
}

// Many connections at once wait for one list, and where they have one that is good they do not wait for its successor.
func TestListIsFetchedOnce(t *testing.T) {
	t.Parallel()
	s, passing := newShop(t), newClock()
	lists := revocation.New(passing.now)
	authority := pkitest.NewAuthority(t, "authority")
	authority.Lists = []string{s.URL + "/list"}
	c := authority.Issue(t, "client")
	s.put("/list", authority.Revoke(t, nil))
	arrived, goOn := make(chan struct{}), make(chan struct{})
	s.arrived = func() { arrived <- struct{}{}; <-goOn }

	var checking sync.WaitGroup
	check := func() {
		checking.Go(func() {
			if err := lists.Check(connected(c, authority)); err != nil {
				t.Error(err)
			}
		})
	}
	check()
	<-arrived
	for range 20 {
		check()
	}
	goOn <- struct{}{}
	checking.Wait()

	passing.advance(61 * time.Minute)
	check()
	<-arrived
	for range 20 {
		if err := lists.Check(connected(c, authority)); err != nil {
			t.Error(err)
		}
	}
	goOn <- struct{}{}
	checking.Wait()
	if n := s.asked.Load(); n != 2 {
		t.Errorf("the list was fetched %d times", n)
	}
}

// No more lists are kept than there is room for: those that were used last.
func TestListsAreBounded(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	lists := revocation.New(time.Now)
	authority := pkitest.NewAuthority(t, "authority")
	list := authority.Revoke(t, nil)
	check := func(place int) {
		path := fmt.Sprintf("/%d", place)
		s.put(path, list)
		authority.Lists = []string{s.URL + path}
		if err := lists.Check(connected(authority.Issue(t, "client"), authority)); err != nil {
			t.Error(err)
		}
	}
	for place := range 150 {
		check(0) // which is in use always
		check(place)
	}
	if n := s.asked.Load(); n != 150 {
		t.Errorf("lists were fetched %d times", n)
	}
	check(149)
	if n := s.asked.Load(); n != 150 {
		t.Error("the last one is not kept")
	}
	check(1)
	if n := s.asked.Load(); n != 151 {
		t.Error("all are kept")
	}
}
