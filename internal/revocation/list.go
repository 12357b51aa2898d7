package revocation

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// list is one that counts for the certificates that name its places.
type list struct {
	until                      time.Time
	revoked                    map[string]time.Time // when, by serial number
	usersOnly, authoritiesOnly bool                 // whose certificates it is about; neither: of all
	bytes                      int
}

// over reports whether there must be a newer one.
func (l *list) over(now time.Time) bool { return now.After(l.until.Add(leeway)) }

// fetch is the first good list of some places. Each has its part of the time.
func (l *Lists) fetch(ctx context.Context, places []string, issuer *x509.Certificate) (*list, error) {
	problems := ""
	for i, place := range places {
		deadline, _ := ctx.Deadline()
		data, err := l.download(ctx, place, time.Until(deadline)/time.Duration(len(places)-i))
		var read *list
		if err == nil {
			read, err = parse(data, places, issuer, l.now())
		}
		if err == nil {
			return read, nil
		}
		if problems != "" {
			problems += "; "
		}
		problems += place + ": " + err.Error()
	}
	return nil, errors.New(problems)
}

func (l *Lists) download(ctx context.Context, place string, within time.Duration) (data []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, place, nil)
	if err != nil {
		return nil, err
	}
	response, err := l.client.Do(request)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // the place is told already
		}
		return nil, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", response.Status)
	}
	data, err = io.ReadAll(io.LimitReader(response.Body, mostBytes+1))
	if err == nil && len(data) > mostBytes {
		err = fmt.Errorf("it has more than %d MiB, which is the most that is read", mostBytes>>20)
	}
	return data, err
}

// parse reads a list, and reports what keeps it from saying whether certificates of an issuer are revoked.
func parse(data []byte, places []string, issuer *x509.Certificate, now time.Time) (*list, error) {
	if block, _ := pem.Decode(data); block != nil {
		data = block.Bytes // as some servers have it
	}
	parsed, err := x509.ParseRevocationList(data)
	if err != nil {
		return nil, fmt.Errorf("it is no revocation list: %w", err)
	}
	if !bytes.Equal(parsed.RawIssuer, issuer.RawSubject) {
		return nil, fmt.Errorf("it is the list of `%s`", parsed.Issuer)
	}
	if err := parsed.CheckSignatureFrom(issuer); err != nil {
		return nil, fmt.Errorf("the issuer has not signed it, or may not sign lists: %w", err)
	}
	l := &list{until: parsed.NextUpdate, revoked: make(map[string]time.Time, len(parsed.RevokedCertificateEntries)), bytes: len(data)}
	switch {
	case parsed.NextUpdate.IsZero():
		return nil, errors.New("it does not say when there is a newer one (nextUpdate)")
	case l.over(now):
		return nil, fmt.Errorf("it has expired on %s", parsed.NextUpdate.UTC().Format(time.RFC3339))
	case parsed.ThisUpdate.After(now.Add(leeway)):
		return nil, fmt.Errorf("it is valid from %s on only", parsed.ThisUpdate.UTC().Format(time.RFC3339))
	}
	for _, e := range parsed.Extensions {
		switch {
		case e.Id.Equal(oidScope):
			if err := l.scope(e.Value, places); err != nil {
				return nil, err
			}
		case e.Critical:
			return nil, fmt.Errorf("it has a critical extension (%s) that is not known here", e.Id)
		}
	}
	for _, r := range parsed.RevokedCertificateEntries {
		for _, e := range r.Extensions {
			if e.Critical {
				return nil, fmt.Errorf("an entry of it has a critical extension (%s) that is not known here", e.Id)
			}
		}
		l.revoked[string(r.SerialNumber.Bytes())] = r.RevocationTime
	}
	return l, nil
}

// oidScope is the extension issuingDistributionPoint.
var oidScope = asn1.ObjectIdentifier{2, 5, 29, 28}

// scope reads for which certificates a list is. One for other places says nothing of them: it could be put in the place of theirs.
func (l *list) scope(der []byte, places []string) error {
	var s struct {
		Point struct {
			FullName []asn1.RawValue `asn1:"optional,tag:0"`
			Relative asn1.RawValue   `asn1:"optional,tag:1"`
		} `asn1:"optional,tag:0"`
		Users       bool           `asn1:"optional,tag:1"`
		Authorities bool           `asn1:"optional,tag:2"`
		SomeReasons asn1.BitString `asn1:"optional,tag:3"`
		Indirect    bool           `asn1:"optional,tag:4"`
		Attributes  bool           `asn1:"optional,tag:5"`
	}
	if rest, err := asn1.Unmarshal(der, &s); err != nil || len(rest) > 0 {
		return errors.New("what it is about (issuingDistributionPoint) cannot be read")
	}
	const uri = 6
	ours := func(n asn1.RawValue) bool {
		return n.Class == asn1.ClassContextSpecific && n.Tag == uri && slices.Contains(places, string(n.Bytes))
	}
	switch {
	case s.SomeReasons.BitLength > 0, s.Indirect, s.Attributes:
		return errors.New("it has some revoked certificates only (issuingDistributionPoint)")
	case len(s.Point.Relative.FullBytes) > 0, len(s.Point.FullName) > 0 && !slices.ContainsFunc(s.Point.FullName, ours):
		return errors.New("it is for certificates that name another distribution point")
	}
	l.usersOnly, l.authoritiesOnly = s.Users, s.Authorities
	return nil
}
