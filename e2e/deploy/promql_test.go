package deploy_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

// question is an expression of PromQL that is held against the series that there are.
type question struct {
	series map[string]labelSet
	asked  labelSet // the names of the series that it asks for
	wrong  []string
}

func (q *question) wrongf(format string, args ...any) {
	q.wrong = append(q.wrong, fmt.Sprintf(format, args...))
}

// ask reads an expression. It returns the labels of its result, and what is wrong with it.
func ask(series map[string]labelSet, text string) (result, asked labelSet, wrong []string) {
	e, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		return nil, nil, []string{err.Error()}
	}
	q := &question{series: series, asked: labelSet{}}
	result = q.labels(e)
	return result, q.asked, q.wrong
}

// needs finds fault with labels that are not among those of e.
func (q *question) needs(e parser.Expr, have labelSet, names ...string) {
	for _, n := range names {
		if have != nil && !have[n] {
			q.wrongf("no label %s: %s has %v", n, e, have)
		}
	}
}

// labels are those of what an expression results in; nil for a number, and for what is wrong already.
func (q *question) labels(e parser.Expr) labelSet {
	switch e := e.(type) {
	case *parser.NumberLiteral, *parser.StringLiteral:
		return nil
	case *parser.ParenExpr:
		return q.labels(e.Expr)
	case *parser.UnaryExpr:
		return q.labels(e.Expr)
	case *parser.SubqueryExpr:
		return q.labels(e.Expr)
	case *parser.MatrixSelector:
		return q.labels(e.VectorSelector)
	case *parser.VectorSelector:
		return q.selected(e)
	case *parser.AggregateExpr:
		return q.aggregated(e)
	case *parser.BinaryExpr:
		return q.matched(e)
	case *parser.Call:
		return q.called(e)
	default:
		q.wrongf("this test does not know %T: %s", e, e)
		return nil
	}
}

func (q *question) selected(e *parser.VectorSelector) labelSet {
	have, ok := q.series[e.Name]
	if !ok {
		q.wrongf("%q is not exported: %s", e.Name, e)
		return nil
	}
	q.asked[e.Name] = true
	for _, m := range e.LabelMatchers {
		if m.Name != model.MetricNameLabel {
			q.needs(e, have, m.Name)
		}
	}
	return have
}

func (q *question) aggregated(e *parser.AggregateExpr) labelSet {
	if e.Param != nil {
		q.labels(e.Param)
	}
	have := q.labels(e.Expr)
	q.needs(e.Expr, have, e.Grouping...)
	switch {
	case e.Op == parser.COUNT_VALUES:
		q.wrongf("this test does not know %s", e.Op)
		return nil
	case e.Op == parser.TOPK || e.Op == parser.BOTTOMK || e.Op == parser.LIMITK || e.Op == parser.LIMIT_RATIO:
		return have
	case e.Without:
		return lacking(have, e.Grouping...)
	default:
		return labelled(e.Grouping...)
	}
}

func (q *question) matched(e *parser.BinaryExpr) labelSet {
	left, right, how := q.labels(e.LHS), q.labels(e.RHS), e.VectorMatching
	switch {
	case left == nil:
		return right
	case right == nil:
		return left
	}
	if how.On {
		q.needs(e.LHS, left, how.MatchingLabels...)
		q.needs(e.RHS, right, how.MatchingLabels...)
	} else {
		for _, n := range how.MatchingLabels {
			if !left[n] && !right[n] {
				q.wrongf("no label %s on either side: %s", n, e)
			}
		}
		l, r := lacking(left, how.MatchingLabels...), lacking(right, how.MatchingLabels...)
		// Both sides of an "or" go into the result, whether they match or not.
		if !maps.Equal(l, r) && e.Op != parser.LOR {
			q.wrongf("never matches, as one side has %v and the other %v: %s", l, r, e)
		}
	}
	// many returns the labels of the side with more series, and those that it is given from the other.
	many := func(more labelSet, one parser.Expr, less labelSet) labelSet {
		q.needs(one, less, how.Include...)
		out := maps.Clone(more)
		maps.Copy(out, labelled(how.Include...))
		return out
	}
	switch {
	case e.Op == parser.LOR:
		out := labelSet{}
		for n := range left {
			if right[n] {
				out[n] = true
			}
		}
		return out
	case how.Card == parser.CardManyToMany:
		return left
	case how.Card == parser.CardManyToOne:
		return many(left, e.RHS, right)
	case how.Card == parser.CardOneToMany:
		return many(right, e.LHS, left)
	case how.On:
		return labelled(how.MatchingLabels...)
	default:
		return lacking(left, how.MatchingLabels...)
	}
}

func (q *question) called(e *parser.Call) (have labelSet) {
	var of parser.Expr
	for _, a := range e.Args {
		if l := q.labels(a); l != nil {
			of, have = a, l
		}
	}
	switch e.Func.Name {
	case "rate", "increase", "irate":
		// A subquery has no name to tell by.
		if m, ok := e.Args[0].(*parser.MatrixSelector); ok {
			if name := m.VectorSelector.(*parser.VectorSelector).Name; !counts(name) {
				q.wrongf("%s is no counter: %s", name, e)
			}
		}
	case "histogram_quantile":
		q.needs(of, have, "le")
		return lacking(have, "le")
	case "scalar":
		return nil
	case "label_replace", "label_join", "absent", "absent_over_time", "vector", "info":
		q.wrongf("this test does not know %s", e.Func.Name)
	}
	return have
}

// counts tells by the name of a series whether it only ever grows, as Prometheus itself does.
func counts(name string) bool {
	return slices.ContainsFunc([]string{"_total", "_bucket", "_sum", "_count"}, func(suffix string) bool { return strings.HasSuffix(name, suffix) })
}

// lacking is a copy without some of them.
func lacking(l labelSet, names ...string) labelSet {
	out := maps.Clone(l)
	for _, n := range names {
		delete(out, n)
	}
	return out
}

func TestQuestions(t *testing.T) {
	series := map[string]labelSet{
		"calls_total":         labelled("instance", "service", "status"),
		"errors_total":        labelled("instance", "service", "reason"),
		"took_seconds_bucket": labelled("instance", "service", "le"),
		"targets":             labelled("instance", "zone"),
	}
	for _, c := range []struct{ query, result, wrong string }{
		{`calls_total`, "{instance, service, status}", ""},
		{`calls_total{status!="OK"} > 3`, "{instance, service, status}", ""},
		{`sum by (service) (rate(calls_total[5m]))`, "{service}", ""},
		{`sum without (service) (rate(calls_total[5m] offset 1h))`, "{instance, status}", ""},
		{`sum(increase(calls_total[1h])) * 60`, "{}", ""},
		{`topk(3, sum by (service, status) (calls_total))`, "{service, status}", ""},
		{`histogram_quantile(0.9, sum by (le, service) (rate(took_seconds_bucket[5m])))`, "{service}", ""},
		{`rate(sum by (service) (calls_total)[1h:1m])`, "{service}", ""},
		{`max_over_time((-targets)[1h:1m])`, "{instance, zone}", ""},
		{`calls_total / on (instance) group_left (zone) targets`, "{instance, service, status, zone}", ""},
		{`sum by (service) (calls_total) / ignoring (service) group_left sum(calls_total)`, "{service}", ""},
		{`targets * on (instance) group_right () errors_total`, "{instance, reason, service}", ""},
		{`calls_total and on (service) errors_total`, "{instance, service, status}", ""},
		{`calls_total / ignoring (status, reason) errors_total`, "{instance, service}", ""},
		{`errors_total or calls_total`, "{instance, service}", ""},
		{`time() - scalar(targets)`, "", ""},

		{`sum by (service (calls_total)`, "", "unexpected"},
		{`sum(call_total)`, "", `"call_total" is not exported`},
		{`{instance="a"}`, "", `"" is not exported`},
		{`calls_total{reason="x"}`, "", "no label reason"},
		{`sum by (zone) (calls_total)`, "", "no label zone"},
		{`sum by (status) (sum by (service) (calls_total))`, "", "no label status"},
		{`sum without (zone) (calls_total)`, "", "no label zone"},
		{`topk(scalar(call_total), calls_total)`, "", `"call_total" is not exported`},
		{`histogram_quantile(0.9, sum by (service) (rate(took_seconds_bucket[5m])))`, "", "no label le"},
		{`rate(targets[5m])`, "", "targets is no counter"},
		{`calls_total / errors_total`, "", "never matches"},
		{`calls_total / on (zone) errors_total`, "", "no label zone"},
		{`calls_total / ignoring (zone, status, reason) errors_total`, "", "no label zone"},
		{`calls_total * on (instance) group_left (reason) targets`, "", "no label reason"},
		{`label_replace(calls_total, "a", "$1", "service", "(.*)")`, "", "does not know label_replace"},
		{`count_values("n", calls_total)`, "", "does not know count_values"},
	} {
		result, _, wrong := ask(series, c.query)
		switch {
		case c.wrong != "" && !strings.Contains(strings.Join(wrong, "\n"), c.wrong):
			t.Errorf("%s: %q is said to be wrong, want %q", c.query, wrong, c.wrong)
		case c.wrong == "" && len(wrong) > 0:
			t.Errorf("%s: %q", c.query, wrong)
		case c.wrong == "" && (result == nil) != (c.result == "") || c.result != "" && result.String() != c.result:
			t.Errorf("%s: the result has the labels %v, want %s", c.query, result, c.result)
		}
	}
}
