package topology

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

// kind is what the value of an option can be: how it is read, or what is wrong with it as the end of a sentence, and how JSON shows it.
type kind struct {
	read func(value string) (v any, wrong string)
	show func(v any) any

	shape object // its JSON Schema
}

// kinds are those that the tag `is` names, with the type of their fields.
var kinds = map[string]kind{
	"count":    {readCount, asItIs, number(1_000_000, `^\+?[0-9]+$`)},                                                                                                                                                                               // int
	"size":     {readSize, asItIs, number(1<<30, `^\+?[0-9]+\s*(KiB|MiB|GiB|B)?$`)},                                                                                                                                                                 // int, in bytes
	"toggle":   {readToggle, asItIs, word(&text{}, `oneof:"true false"`)},                                                                                                                                                                           // bool
	"word":     {func(value string) (any, string) { return value, "" }, asItIs, word(&text{}, "")},                                                                                                                                                  // string
	"metadata": {readMetadata, asItIs, word(&metadataName{}, "")},                                                                                                                                                                                   // string
	"field":    {readField, asItIs, object{{"type", []string{"integer", "string"}}, {"minimum", 1}, {"maximum", maxField}, {"pattern", orVariable(`^\+?[0-9]+$`)}, {"not", object{{"type", "integer"}, {"minimum", 19_000}, {"maximum", 19_999}}}}}, // int32
	"topic":    {readTopic, asItIs, word(&topicName{}, "")},                                                                                                                                                                                         // string
	"code":     {readCode, func(v any) any { return codeName(v.(codes.Code)) }, codeShape()},                                                                                                                                                        // codes.Code
	"duration": {readDuration, func(v any) any { return v.(time.Duration).String() }, written(aDuration)},                                                                                                                                           // time.Duration
	"moment":   {readMoment, func(v any) any { return v.(time.Duration).String() }, written(aDuration)},                                                                                                                                             // time.Duration
	"bound":    {readBound, func(v any) any { return boundText(v.(time.Duration)) }, written(aDuration + "|^none$")},                                                                                                                                // time.Duration, 0 for none
	"patience": {readPatience, func(v any) any { return patienceText(v.(time.Duration)) }, written(aDuration + "|^never$")},                                                                                                                         // time.Duration, 0 for never
	"pause":    {readPause, func(v any) any { return max(v.(time.Duration), 0).String() }, object{{"type", []string{"string", "integer"}}, {"minimum", 0}, {"maximum", 0}, {"pattern", orVariable(aDuration + "|^[+-]?0$")}}},                       // time.Duration, -1 for 0
}

// aDuration is how Go writes one.
const aDuration = `^[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`

func number(most int, pattern string) object {
	return object{{"type", []string{"integer", "string"}}, {"minimum", 1}, {"maximum", most}, {"pattern", orVariable(pattern)}}
}

// written is a text of a pattern.
func written(pattern string) object {
	return object{{"type", "string"}, {"pattern", orVariable(pattern)}}
}

// codeShape takes names of codes as readCode does.
func codeShape() object {
	var names, patterns []string
	for _, name := range append(slices.Clone(wire.StatusNames[1:]), "CANCELED") {
		names = append(names, hyphened(name))
		var p strings.Builder
		for _, r := range name {
			if r == '_' {
				p.WriteString("[-_]")
			} else {
				p.WriteString("[" + string(r) + strings.ToLower(string(r)) + "]")
			}
		}
		patterns = append(patterns, p.String())
	}
	return object{{"type", "string"}, {"pattern", orVariable("^(" + strings.Join(patterns, "|") + ")$")}, {"examples", names}}
}

func asItIs(v any) any { return v }

// readCount reads a whole number from 1 to 1,000,000.
func readCount(value string) (any, string) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > 1_000_000 {
		return nil, "must be a whole number from 1 to 1000000"
	}
	return n, ""
}

var units = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}, {"", 1}}

// readSize reads a positive number of bytes, at most 1 GiB.
func readSize(value string) (any, string) {
	for _, unit := range units {
		number, found := strings.CutSuffix(value, unit.suffix)
		if !found {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n <= 0 || n > math.MaxInt64/unit.bytes || n*unit.bytes > 1<<30 {
			break
		}
		return int(n * unit.bytes), ""
	}
	return nil, "must be a number of bytes from 1 to 1GiB, such as 4096, 900KiB or 1MiB"
}

func readToggle(value string) (any, string) {
	if value != "true" && value != "false" {
		return nil, "must be true or false"
	}
	return value == "true", ""
}

func readTopic(value string) (any, string) { return value, (&topicName{}).parse(value) }

func readMetadata(value string) (any, string) {
	m := metadataName{}
	wrong := m.parse(value)
	return m.text.value, wrong
}

const maxField = 1<<29 - 1 // protobuf's

// readField reads the number of a field of a message, which are not those that protobuf keeps for itself.
func readField(value string) (any, string) {
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n < 1 || n > maxField || n >= 19000 && n < 20000 {
		return nil, "must be the number of a field from 1 to 536870911, and not from 19000 to 19999"
	}
	return int32(n), ""
}

// readCode reads a gRPC status code by name; case and the choice of - or _ do not matter.
func readCode(value string) (any, string) {
	v, ok := wire.StatusOf(value)
	switch {
	case !ok:
		var names []string
		for _, name := range wire.StatusNames[1:] {
			names = append(names, hyphened(name))
		}
		slices.Sort(names)
		return nil, "must be the name of a gRPC status code such as `" + cmp.Or(nearest(hyphened(value), names), "unavailable") + "`"
	case v == codes.OK:
		return nil, "must be the code of an error: a call that went well is never made again"
	}
	return v, ""
}

// codeName is the name of a code as a configuration writes it.
func codeName(c codes.Code) string {
	if c == codes.Canceled {
		return "canceled" // either spelling is read
	}
	return hyphened(wire.StatusName(c))
}

// hyphened is the name of a status as a configuration writes it.
func hyphened(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

// readDuration reads a positive Go duration.
func readDuration(value string) (any, string) {
	v, err := time.ParseDuration(value)
	if err != nil || v <= 0 {
		return nil, "must be a positive duration with a unit, such as 500ms, 30s or 24h"
	}
	return v, ""
}

// readMoment reads a Go duration from 1 ms to 1 s.
func readMoment(value string) (any, string) {
	v, err := time.ParseDuration(value)
	if err != nil || v < time.Millisecond || v > time.Second {
		return nil, "must be a duration from 1ms to 1s, such as 100ms"
	}
	return v, ""
}

// readBound reads a positive Go duration, or none.
func readBound(value string) (any, string) {
	if value == "none" {
		return time.Duration(0), ""
	}
	v, wrong := readDuration(value)
	if wrong != "" {
		wrong += ", or none"
	}
	return v, wrong
}

// boundText is a duration that may be none, as the file writes it.
func boundText(d time.Duration) string {
	if d == 0 {
		return "none"
	}
	return d.String()
}

// readPatience reads a positive Go duration, or never.
func readPatience(value string) (any, string) {
	if value == "never" {
		return time.Duration(0), ""
	}
	v, wrong := readDuration(value)
	if wrong != "" {
		wrong += ", or never"
	}
	return v, wrong
}

// patienceText is a duration after which something happens, or never, as the file writes it.
func patienceText(d time.Duration) string {
	if d == 0 {
		return "never"
	}
	return d.String()
}

// readPause reads a Go duration that may be 0, which is -1 then: 0 has a default.
func readPause(value string) (any, string) {
	v, err := time.ParseDuration(value)
	if err != nil || v < 0 {
		return nil, "must be 0 or a duration with a unit, such as 500ms or 5s"
	}
	if v == 0 {
		v = AnyKeepalive
	}
	return v, ""
}
