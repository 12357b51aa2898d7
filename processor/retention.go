package processor

import "kafkagrpc/internal/kafka"

// warnOfRetention says which topics keep requests for longer than the table keeps their results.
func (p *Processor) warnOfRetention(topics *kafka.Topics) error {
	var first string
	var kept []string
	for _, topic := range p.config.Remote.Requests() {
		retention, err := topics.Retention(topic)
		if err != nil {
			return err
		}
		text := p.config.Remote.Outlive(retention)
		if text == "" {
			continue
		}
		if first == "" {
			first = "topic " + topic + " " + text
		}
		kept = append(kept, topic)
	}
	if first != "" {
		p.config.Log.Warn("requests outlive their results: "+first, "topics", kept)
	}
	return nil
}
