package topology

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
)

// A field with its tags is an option: nothing else has to know of it.
func TestOptionIsItsField(t *testing.T) {
	t.Parallel()
	type compiled struct {
		Name   string        // no option
		Speed  int           `yaml:"speed" is:"count" default:"7"`
		Weight int           `yaml:"load.weight" is:"size" default:"2KiB" json:"heavy"`
		Rest   time.Duration `yaml:"load.rest" is:"duration" default:"1m"`
		Wait   time.Duration `yaml:"load.wait" is:"bound" default:"3s"`
		Pause  time.Duration `yaml:"load.deep.pause" is:"pause"`
		Still  bool          `yaml:"still" is:"toggle"`
		Codes  []codes.Code  `yaml:"codes" is:"code" default:"aborted"`
		Color  string        `yaml:"color" is:"word" oneof:"red blue" json:",omitempty"`
		Topic  string        `yaml:"topic" is:"topic" json:"-"`
	}
	type schema struct {
		Options struct {
			compiled
			Other text `yaml:"other"`
		} `yaml:"options"`
	}
	tests := map[string]struct {
		text string
		want string   // as JSON; "": problems
		bad  []string // problems
	}{
		"defaults": {
			text: "options:\n",
			want: `{"speed":7,"heavy":2048,"load-rest":"1m0s","load-wait":"3s","load-deep-pause":"0s","still":false,"codes":["aborted"]}`,
		},
		"no mapping around them": {
			text: "{}",
			want: `{"speed":7,"heavy":2048,"load-rest":"1m0s","load-wait":"3s","load-deep-pause":"0s","still":false,"codes":["aborted"]}`,
		},
		"values": {
			text: "options:\n  speed: 9\n  load: {weight: 3MiB, rest: 90s, wait: none, deep: {pause: 0}}\n  still: true\n" +
				"  codes: [INTERNAL, data-loss]\n  color: blue\n  topic: t\n",
			want: `{"speed":9,"heavy":3145728,"load-rest":"1m30s","load-wait":"none","load-deep-pause":"0s","still":true,"codes":["internal","data-loss"],"color":"blue"}`,
		},
		"an empty list is no default": {
			text: "options: {codes: []}\n",
			want: `{"speed":7,"heavy":2048,"load-rest":"1m0s","load-wait":"3s","load-deep-pause":"0s","still":false,"codes":[]}`,
		},
		"bounds": {
			text: "options:\n  speed: 0\n  load: {weight: 2GiB, rest: 0s, wait: never, deep: {pause: -1s}}\n  still: maybe\n" +
				"  codes: [aborted, nope]\n  color: green\n  topic: a b\n",
			bad: []string{
				"f:2:10: `options.speed` must be a whole number from 1 to 1000000, not `0`",
				"f:3:18: `options.load.weight` must be a number of bytes from 1 to 1GiB, such as 4096, 900KiB or 1MiB, not `2GiB`",
				"f:3:30: `options.load.rest` must be a positive duration with a unit, such as 500ms, 30s or 24h, not `0s`",
				"f:3:40: `options.load.wait` must be a positive duration with a unit, such as 500ms, 30s or 24h, or none, not `never`",
				"f:3:61: `options.load.deep.pause` must be 0 or a duration with a unit, such as 500ms or 5s, not `-1s`",
				"f:4:10: `options.still` must be true or false, not `maybe`",
				"f:5:20: `options.codes[1]` must be the name of a gRPC status code such as `unavailable`, not `nope`",
				"f:6:10: `options.color` must be red or blue, not `green`",
				"f:7:10: `options.topic` must be a legal Kafka topic name (1 to 249 of a-z A-Z 0-9 . _ -), not `a b`",
			},
		},
		"names": {
			text: "options:\n  sped: 1\n  load: {wieght: 1, deep: {puase: 1s}, deeep: 1}\n  still: false\n  lod: {}\n  zzzzzz: 1\n",
			bad: []string{
				"f:2:3: unknown key `sped` in `options`; did you mean `speed`?",
				"f:3:10: unknown key `wieght` in `options.load`; did you mean `weight`?",
				"f:3:28: unknown key `puase` in `options.load.deep`; did you mean `pause`?",
				"f:3:40: unknown key `deeep` in `options.load`; did you mean `deep`?",
				"f:5:3: unknown key `lod` in `options`; did you mean `load`?",
				"f:6:3: unknown key `zzzzzz` in `options`; known: speed, load, still, codes, color, topic, other",
			},
		},
		"shapes": {
			text: "options:\n  speed: [1]\n  load: 5\n  codes: aborted\n",
			bad: []string{
				"f:2:10: `options.speed` must be a single value, not a list",
				"f:3:9: `options.load` must be a mapping, not a single value",
				"f:4:10: `options.codes` must be a list, not a single value",
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReport("f")
			root, ok := parse(r, []byte(tt.text))
			if !ok {
				t.Fatal(r.problems)
			}
			d := &decoder{report: r, texts: map[any]text{}}
			pairs, _ := d.pairs(root, place{})
			s := &schema{}
			d.fill(s, pairs, position{}, place{})
			if tt.bad != nil {
				r.sort()
				if diff := cmp.Diff(strings.Join(tt.bad, "\n"), r.problems.Error()); diff != "" {
					t.Errorf("problems (-want +got):\n%s", diff)
				}
				return
			}
			got, err := json.Marshal(optionsJSON(s.Options.compiled))
			if err != nil || len(r.problems) > 0 {
				t.Fatal(err, r.problems)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("JSON (-want +got):\n%s", diff)
			}
			if topic := d.texts[&s.Options.Topic]; topic.given != strings.Contains(tt.text, "topic") || topic.value != s.Options.Topic {
				t.Errorf("topic is %q, and the file says %+v", s.Options.Topic, topic)
			}
		})
	}
}
