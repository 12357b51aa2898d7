package deadletter

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"kafkagrpc/topology"
)

// Filter picks letters. The zero value picks all.
type Filter struct {
	Reason       string    // the class of the reason, or a part of its text in any case
	Method       string    // "package.Service/Method", "package.Service/*", or the bare name of a method
	Since, Until time.Time // when the letter was written: from Since on, before Until
	KeyPrefix    []byte
}

// FilterField is a field of a Filter under the name that it has everywhere: as a flag, and as a parameter over HTTP.
type FilterField struct {
	Name string
	Help string // of a flag
	set  func(f *Filter, text string, now time.Time) error
}

// FilterFields are all fields of a Filter.
var FilterFields = []FilterField{
	{"reason", "only letters with this class of reason, such as retries_exhausted, or with this text in the reason", func(f *Filter, text string, _ time.Time) error {
		f.Reason = text
		return nil
	}},
	{"method", "only calls of this method: grpc.examples.echo.Echo/UnaryEcho, grpc.examples.echo.Echo/* or UnaryEcho", func(f *Filter, text string, _ time.Time) error {
		f.Method = text
		return nil
	}},
	{"since", "only letters from then on: a time such as 2026-01-31T12:00:00Z, or how long ago, such as 15m", func(f *Filter, text string, now time.Time) (err error) {
		f.Since, err = timeOf(text, now)
		return err
	}},
	{"until", "only letters from before then, as --since", func(f *Filter, text string, now time.Time) (err error) {
		f.Until, err = timeOf(text, now)
		return err
	}},
	{"key-prefix", `only letters whose key begins with this, or with these bytes in quotes as list shows them, such as '"\xff\x00"'`, func(f *Filter, text string, _ time.Time) error {
		f.KeyPrefix = []byte(text)
		if strings.HasPrefix(text, `"`) {
			unquoted, err := strconv.Unquote(text)
			if err != nil {
				return errors.New(`what begins with a quote is in quotes, as list shows it, such as "\xff\x00"`)
			}
			f.KeyPrefix = []byte(unquoted)
		}
		return nil
	}},
}

// timeOf reads a time, or how long ago it was: to the millisecond, as Kafka has them.
func timeOf(text string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago).Truncate(time.Millisecond), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, errors.New("it is a time such as 2026-01-31T12:00:00Z, or a duration ago, such as 15m")
	}
	return at.Truncate(time.Millisecond), nil
}

// ParseFilter makes a filter of the texts of its fields; an empty one asks for nothing. All mistakes are told at once, each
// with the name of its field as it is called there.
func ParseFilter(text func(field string) string, called func(field string) string, now time.Time) (Filter, error) {
	var f Filter
	var problems []error
	for _, field := range FilterFields {
		given := text(field.Name)
		if given == "" {
			continue
		}
		if err := field.set(&f, given, now); err != nil {
			problems = append(problems, fmt.Errorf("%s %q: %w", called(field.Name), given, err))
		}
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Until.After(f.Since) {
		problems = append(problems, fmt.Errorf("%s must be after %s", called("until"), called("since")))
	}
	return f, errors.Join(problems...)
}

// matches reports whether a letter of a call of this method passes.
func (f Filter) matches(l Letter, method func() string) bool {
	switch {
	case !f.Since.IsZero() && l.Timestamp.Before(f.Since), !f.Until.IsZero() && !l.Timestamp.Before(f.Until):
		return false
	case len(f.KeyPrefix) > 0 && !bytes.HasPrefix(l.Key, f.KeyPrefix):
		return false
	case f.Reason != "" && f.Reason != l.Cause.Class && !strings.Contains(strings.ToLower(l.Cause.Reason), strings.ToLower(f.Reason)):
		return false
	}
	return f.Method == "" || sameMethod(f.Method, method())
}

func sameMethod(wanted, method string) bool {
	if strings.ContainsAny(wanted, "/*") {
		return topology.MethodPattern(wanted).Matches(method)
	}
	_, bare, _ := strings.Cut(method, "/")
	return bare == wanted
}
