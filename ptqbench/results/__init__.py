"""The public record of a run and what is made of it: tables, pictures."""
