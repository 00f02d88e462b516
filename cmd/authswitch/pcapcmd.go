package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"authswitch/cmd/authswitch/pcap"
	"authswitch/iso8583"
	"authswitch/link"
)

// fromPcap shows the messages of a capture.
func fromPcap(dialect *string) *cobra.Command {
	var port uint16
	c := &cobra.Command{
		Use: "from-pcap FILE", Short: "Show the messages of a tcpdump or Wireshark capture, masked", Args: cobra.ExactArgs(1),
		Example: `  tcpdump -i eth0 -w line.pcap tcp port 9001
  authswitch message from-pcap line.pcap --dialect visa --port 9001`,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := loadDialect(*dialect)
			if err != nil {
				return err
			}
			stream, err := link.NewStream(d.Framing())
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("open capture: %w", err)
			}
			defer f.Close()
			r := &captureReader{out: cmd.OutOrStdout(), dialect: d, stream: stream, port: port, streams: pcap.NewStreams(), waiting: map[pcap.Direction][]byte{}}
			if err := pcap.Read(f, r.packet); err != nil {
				return err
			}
			return r.end()
		},
	}
	c.Flags().Uint16Var(&port, "port", 0, "only connections with this port at either end (default: all)")
	return c
}

// captureReader cuts the streams of a capture into messages.
type captureReader struct {
	out      io.Writer
	dialect  *iso8583.Dialect
	stream   *link.Stream
	port     uint16
	streams  *pcap.Streams
	waiting  map[pcap.Direction][]byte // the beginning of a frame
	messages int
	lost     int
}

func (r *captureReader) packet(p *pcap.Packet) error {
	for _, piece := range r.streams.Add(p) {
		if r.port != 0 && piece.From.Port() != r.port && piece.To.Port() != r.port {
			continue
		}
		if err := r.piece(&piece); err != nil {
			return err
		}
	}
	return nil
}

// piece cuts what is whole now. After a gap, and where the boundaries are lost,
// the next segment is taken for the beginning of a frame: switches write frames
// whole.
func (r *captureReader) piece(p *pcap.Piece) error {
	b := r.waiting[p.Direction]
	if len(b) > 0 && (p.Gap || p.End) {
		r.lost++
		if err := r.line(p.At, p.Direction, fmt.Sprintf("%d bytes of a frame whose rest is missing", len(b))); err != nil {
			return err
		}
		b = b[:0]
	}
	if p.End {
		delete(r.waiting, p.Direction)
		return nil
	}
	b = append(b, p.Data...)
	for len(b) > 0 {
		payload, size, err := r.stream.Cut(b)
		if err != nil {
			r.lost++
			b = b[:0]
			if err := r.line(p.At, p.Direction, err.Error()); err != nil {
				return err
			}
			break
		}
		if size == 0 {
			break
		}
		if payload != nil {
			if err := r.message(p, payload); err != nil {
				return err
			}
		}
		b = b[size:]
	}
	r.waiting[p.Direction] = b
	return nil
}

func (r *captureReader) line(at time.Time, d pcap.Direction, text string) error {
	_, err := fmt.Fprintf(r.out, "%s  %s > %s  %s\n", at.Format("2006-01-02 15:04:05.000000"), d.From, d.To, text)
	return err
}

func (r *captureReader) message(p *pcap.Piece, payload []byte) error {
	r.messages++
	if err := r.line(p.At, p.Direction, fmt.Sprintf("%d bytes", len(payload))); err != nil {
		return err
	}
	// A message that cannot be read to its end says so in its last line.
	_ = r.dialect.Describe(r.out, payload)
	_, err := fmt.Fprintln(r.out)
	return err
}

// end says what was seen; a capture without a message is a mistake somewhere.
func (r *captureReader) end() error {
	s := r.streams
	if _, err := fmt.Fprintf(r.out, "%d messages in %d TCP segments; %d other packets, %d gaps, %d packets cut short, %d times frame boundaries lost\n",
		r.messages, s.Segments, s.Skipped, s.Gaps, s.Cut, r.lost); err != nil {
		return err
	}
	if r.messages == 0 {
		return errors.New("no message found: is it the right --dialect and --port?")
	}
	return nil
}

// toPcap writes messages as a capture, for Wireshark.
func toPcap(dialect *string) *cobra.Command {
	var port uint16
	var out string
	c := &cobra.Command{
		Use: "to-pcap FILE...", Short: "Write messages as a capture for Wireshark, masked", Args: cobra.MinimumNArgs(1),
		Long: `Each FILE holds one message, as for view. They are written in their order, framed as
the dialect says, requests from a client and answers from a server. What is
sensitive is masked before it is written: of a card number the first six and last
four digits, nothing of tracks, PIN blocks, security codes and chip data.`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			d, err := loadDialect(*dialect)
			if err != nil {
				return err
			}
			stream, err := link.NewStream(d.Framing())
			if err != nil {
				return err
			}
			f, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return fmt.Errorf("make capture: %w", err)
			}
			defer func() { err = errors.Join(err, f.Close()) }()
			w, err := pcap.NewWriter(f, port)
			if err != nil {
				return err
			}
			for i := range args {
				if err := writeMessage(w, d, stream, cmd.InOrStdin(), args, i); err != nil {
					return fmt.Errorf("%s: %w", args[i], err)
				}
			}
			return nil
		},
	}
	c.Flags().Uint16Var(&port, "port", 5000, "the server's port")
	c.Flags().StringVar(&out, "out", "", "the capture to make (required)")
	_ = c.MarkFlagRequired("out")
	return c
}

// writeMessage writes the nth message, a millisecond after the one before it.
func writeMessage(w *pcap.Writer, d *iso8583.Dialect, stream *link.Stream, in io.Reader, args []string, n int) error {
	frame, err := readMessage(in, args, n)
	if err != nil {
		return err
	}
	masked, mti, err := d.Masked(nil, frame)
	if err != nil {
		return err
	}
	at := time.Unix(0, 0).Add(time.Duration(n) * time.Millisecond)
	return w.Write(at, mti.IsResponse(), stream.Append(nil, masked))
}
