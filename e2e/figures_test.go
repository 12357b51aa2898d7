package e2e

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// figures are what one turn of a benchmark measured. Negative: it does not apply, or cannot be known.
type figures struct {
	rate             float64       // requests a second
	p50, p99         time.Duration // of a request, as the load saw it
	cpu, kafka, load time.Duration // of the processor, for one request: who answers, the broker, the load itself
	peak             float64       // MiB of resident memory at most
}

func (f figures) report(b *testing.B) {
	b.ReportMetric(0, "ns/op") // it would be that of the whole benchmark
	for unit, value := range map[string]float64{
		"req/s": f.rate, "p50-ms": milliseconds(f.p50), "p99-ms": milliseconds(f.p99), "cpu-us/req": microseconds(f.cpu),
		"kafka-cpu-us/req": microseconds(f.kafka), "load-cpu-us/req": microseconds(f.load), "peak-MiB": f.peak,
	} {
		if value >= 0 {
			b.ReportMetric(value, unit)
		}
	}
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }
func microseconds(d time.Duration) float64 { return d.Seconds() * 1e6 }

// median is of each figure by itself.
func median(turns []figures) (m figures) {
	m.rate = middle(turns, func(f figures) float64 { return f.rate })
	m.p50 = middle(turns, func(f figures) time.Duration { return f.p50 })
	m.p99 = middle(turns, func(f figures) time.Duration { return f.p99 })
	m.cpu = middle(turns, func(f figures) time.Duration { return f.cpu })
	m.kafka = middle(turns, func(f figures) time.Duration { return f.kafka })
	m.load = middle(turns, func(f figures) time.Duration { return f.load })
	m.peak = middle(turns, func(f figures) float64 { return f.peak })
	return m
}

func middle[T float64 | time.Duration](turns []figures, of func(figures) T) T {
	all := make([]T, len(turns))
	for i, f := range turns {
		all[i] = of(f)
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

// table is Markdown for docs/performance.md. Each row has the figures of who answered, and their ratio to those of somebody.
type table struct {
	beside string // whom
	rows   [][]string
}

func newTable(beside string) *table {
	ratio := "x " + beside
	return &table{beside, [][]string{
		{"calls", "who", "req/s", ratio, "p50 ms", ratio, "p99 ms", "CPU us", ratio, "Kafka's CPU us", "load's CPU us", "peak MiB"},
		{"---", "---", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:"},
	}}
}

// add adds a row. beside are the figures of whom the table has ratios to; zero: they were not measured.
func (t *table) add(calls, who string, f, beside figures) {
	ratio := func(of func(figures) float64) string {
		if who == t.beside || of(f) < 0 || of(beside) <= 0 {
			return ""
		}
		return fmt.Sprintf("%.2f", of(f)/of(beside))
	}
	t.rows = append(t.rows, []string{
		calls, who,
		number(f.rate), ratio(func(f figures) float64 { return f.rate }),
		number(milliseconds(f.p50)), ratio(func(f figures) float64 { return milliseconds(f.p50) }), number(milliseconds(f.p99)),
		number(microseconds(f.cpu)), ratio(func(f figures) float64 { return microseconds(f.cpu) }),
		number(microseconds(f.kafka)), number(microseconds(f.load)), number(f.peak),
	})
}

func (t *table) String() string {
	var b strings.Builder
	for _, row := range t.rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
	}
	return b.String()
}

// words are the figures in short.
func (f figures) words(floor figures) string {
	text := fmt.Sprintf("%s req/s, p50 %s ms", number(f.rate), number(milliseconds(f.p50)))
	if floor.rate > 0 {
		text += fmt.Sprintf("; %.2f and %.2f of the floor", f.rate/floor.rate, f.p50.Seconds()/floor.p50.Seconds())
	}
	return text
}

// number has three digits that count, and a comma for thousands.
func number(f float64) string {
	switch {
	case f < 0:
		return ""
	case f == math.Trunc(f) && f < 1000:
		return strconv.Itoa(int(f))
	case f < 10:
		return strconv.FormatFloat(f, 'f', 2, 64)
	case f < 99.95:
		return strconv.FormatFloat(f, 'f', 1, 64)
	case f < 999.5:
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	n := int(math.Round(f))
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// spent is the time that a process has had of the processors.
func spent(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const userMode, kernelMode, tick = 11, 12, 10 * time.Millisecond // behind the name; Linux counts in 100 Hz for everybody
	var ticks int
	for _, field := range []string{fields[userMode], fields[kernelMode]} {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}
