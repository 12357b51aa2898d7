package topology

import (
	"bytes"
	"strings"
)

// The compiler of protos reads editions up to 2023. 2024 added modifiers, and features that concern generated code and the
// style of names: on the wire the two are the same. A file of 2024 is therefore parsed as one of 2023, with blanks in place of
// the modifiers so that positions stay, and carries its edition again from then on.

// parsedEdition is what edition2024 is parsed as.
const edition2024, parsedEdition = `"2024"`, `"2023"`

// protoToken is a word, a string or a character of a proto.
type protoToken struct {
	text  string
	start int
}

// protoTokens are the tokens of a proto, without its comments. Of what is no proto they are anything.
func protoTokens(source []byte) []protoToken {
	var tokens []protoToken
	for i := 0; i < len(source); {
		end := i + 1
		switch c := source[i]; {
		case c <= ' ':
			i = end
			continue
		case i == 0 && bytes.HasPrefix(source, []byte("\ufeff")):
			i = len("\ufeff")
			continue
		case bytes.HasPrefix(source[i:], []byte("//")):
			i = after(source, i, "\n")
			continue
		case bytes.HasPrefix(source[i:], []byte("/*")):
			i = after(source, i+2, "*/")
			continue
		case c == '"' || c == '\'':
			for end < len(source) && source[end] != c && source[end] != '\n' {
				if source[end] == '\\' {
					end++
				}
				end++
			}
			end = min(end+1, len(source))
		case wordByte(c):
			for end < len(source) && wordByte(source[end]) {
				end++
			}
		}
		tokens = append(tokens, protoToken{string(source[i:end]), i})
		i = end
	}
	return tokens
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// after is the offset behind a text.
func after(source []byte, from int, text string) int {
	if i := bytes.Index(source[from:], []byte(text)); i >= 0 {
		return from + i + len(text)
	}
	return len(source)
}

// lowerEdition makes a file of edition 2024 one that can be parsed. It reports whether it is one.
func lowerEdition(source []byte) ([]byte, bool) {
	tokens := protoTokens(source)
	is := func(i int, texts ...string) bool {
		for j, text := range texts {
			if i+j >= len(tokens) || text != "" && tokens[i+j].text != text {
				return false
			}
		}
		return true
	}
	// The edition comes before all else.
	if !is(0, "edition", "=", edition2024) && !is(0, "edition", "=", "'2024'") {
		return source, false
	}
	lowered := bytes.Clone(source)
	copy(lowered[tokens[2].start:], parsedEdition)
	for i := range tokens {
		modifier := -1
		switch {
		case is(i, "import", "option"):
			modifier = i + 1
		case is(i, "export") || is(i, "local"):
			// Both are also names that something may have.
			if (is(i+1, "message", "", "{") || is(i+1, "enum", "", "{")) && (is(i-1, "{") || is(i-1, "}") || is(i-1, ";")) {
				modifier = i
			}
		}
		if modifier >= 0 {
			copy(lowered[tokens[modifier].start:], strings.Repeat(" ", len(tokens[modifier].text)))
		}
	}
	return lowered, true
}

// packageOf is the package that a proto says it is in.
func packageOf(source []byte) string {
	tokens := protoTokens(source)
	depth := 0
	for i, t := range tokens {
		switch t.text {
		case "{":
			depth++
		case "}":
			depth--
		case "package":
			if depth != 0 || i > 0 && tokens[i-1].text != ";" {
				continue
			}
			var name strings.Builder
			for _, part := range tokens[i+1:] {
				if part.text == ";" {
					break
				}
				name.WriteString(part.text)
			}
			return name.String()
		}
	}
	return ""
}
