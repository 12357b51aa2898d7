// Package records is the text form of Kafka records: what the golden files of the conformance suite are written in.
//
//	# A comment. Records are separated by empty lines.
//	requests key-1
//	value "\n\x02hi"
//	zilla:service = conformance.Whole
//	meta:odd = "with a quote \" or a byte \xff"
//
// The first line is the topic and the key. A value is null, or one or more strings of Go joined by " + ", each of which may be repeated:
// 100000*"x". A header's value is quoted only where it would be unclear; one in angle brackets stands for what no two runs have in
// common. The package knows nothing of what the headers mean.
package records

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"kafkagrpc/wire"
)

// run is the number of equal bytes from which on they are written as one.
const run = 64

// placeholder is a header's value that stands for another.
var placeholder = regexp.MustCompile(`^<[a-z]+( [0-9]+)?>$`)

// Format writes records as text.
func Format(records []wire.Record) string {
	var b strings.Builder
	for i, r := range records {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s %s\nvalue %s\n", r.Topic, word(string(r.Key)), formatValue(r.Value))
		for _, h := range r.Headers {
			fmt.Fprintf(&b, "%s = %s\n", h.Name, word(string(h.Value)))
		}
	}
	return b.String()
}

// word quotes what would not be read as it is.
func word(s string) string {
	quoted := strconv.QuoteToASCII(s)
	if placeholder.MatchString(s) || quoted[1:len(quoted)-1] == s && s != "" && s[0] != '<' && strings.TrimSpace(s) == s {
		return s
	}
	return quoted
}

func formatValue(value []byte) string {
	if value == nil {
		return "null"
	}
	var terms []string
	for rest := string(value); ; {
		start, end := firstRun(rest)
		if start > 0 || rest == "" && terms == nil {
			terms = append(terms, strconv.QuoteToASCII(rest[:start]))
		}
		if start == len(rest) {
			return strings.Join(terms, " + ")
		}
		terms = append(terms, fmt.Sprintf("%d*%s", end-start, strconv.QuoteToASCII(rest[start:start+1])))
		rest = rest[end:]
	}
}

// firstRun is where the first long run of equal bytes is; at the end where there is none.
func firstRun(s string) (start, end int) {
	for start < len(s) {
		end = start + 1
		for end < len(s) && s[end] == s[start] {
			end++
		}
		if end-start >= run {
			return start, end
		}
		start = end
	}
	return len(s), len(s)
}

// Parse reads what Format wrote. Its errors name the line.
func Parse(text string) ([]wire.Record, error) {
	var all []wire.Record
	var problems []error
	lines, inRecord := strings.Split(text, "\n"), 0
	for n, line := range lines {
		line = strings.TrimRight(line, " \t\r")
		if strings.HasPrefix(line, "#") {
			continue
		}
		if line == "" {
			if inRecord == 1 {
				problems = append(problems, fmt.Errorf("line %d: the record above has no value", n+1))
			}
			inRecord = 0
			continue
		}
		if inRecord == 0 {
			all = append(all, wire.Record{})
		}
		if err := parseLine(&all[len(all)-1], inRecord, line); err != nil {
			problems = append(problems, fmt.Errorf("line %d: %w", n+1, err))
		}
		inRecord++
	}
	return all, errors.Join(problems...)
}

// parseLine reads the nth line of a record.
func parseLine(r *wire.Record, n int, line string) (err error) {
	switch n {
	case 0:
		topic, key, ok := strings.Cut(line, " ")
		if !ok {
			return fmt.Errorf("%q is not a topic and a key", line)
		}
		r.Topic = topic
		r.Key, err = parseWord(key)
	case 1:
		value, ok := strings.CutPrefix(line, "value ")
		if !ok {
			return fmt.Errorf("%q is not the record's value", line)
		}
		r.Value, err = parseValue(value)
	default:
		name, value, ok := strings.Cut(line, " = ")
		if !ok {
			return fmt.Errorf("%q is not a header, name = value", line)
		}
		h := wire.Header{Name: name}
		h.Value, err = parseWord(value)
		r.Headers = append(r.Headers, h)
	}
	return err
}

func parseWord(s string) ([]byte, error) {
	if !strings.HasPrefix(s, `"`) {
		return []byte(s), nil
	}
	return unquote(s)
}

func unquote(s string) ([]byte, error) {
	text, err := strconv.Unquote(s)
	if err != nil {
		return nil, fmt.Errorf("%s is not a string of Go", s)
	}
	return []byte(text), nil
}

func parseValue(s string) ([]byte, error) {
	if s == "null" {
		return nil, nil
	}
	value := []byte{}
	for s != "" {
		times := 1
		if number, rest, ok := strings.Cut(s, `*"`); ok && !strings.HasPrefix(s, `"`) {
			n, err := strconv.Atoi(number)
			if err != nil || n < 0 {
				return nil, fmt.Errorf("%q is not a number", number)
			}
			times, s = n, `"`+rest
		}
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%s does not begin with a string of Go", s)
		}
		text, err := unquote(quoted)
		if err != nil {
			return nil, err
		}
		value = append(value, strings.Repeat(string(text), times)...)
		s = strings.TrimPrefix(s[len(quoted):], " + ")
	}
	return value, nil
}
