"""Amazon Bedrock: batch inference jobs over files in S3."""
